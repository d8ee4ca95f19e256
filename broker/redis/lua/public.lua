-- What everybody may call, from any Redis client:
--
--   FCALL sluice_publish 1 CHANNEL PAYLOAD [event E] [key K] [id I] [live 1] [messages N] [age MS] [traceparent T]
--
-- reply {position, duplicate 0 or 1}; the position of a live message is ''

local window = 300000
local meta_age = 86400000
local reserved = {
  welcome = true, gap = true, reconnect = true, unavailable = true, heartbeat = true, -- Sluice's own
  open = true, error = true, -- EventSource fires these itself
}
local options = { event = true, key = true, id = true, live = true, messages = true, age = true, traceparent = true }

local function tail(b) return b and b >= 0x80 and b <= 0xbf end

-- character returns the length of the UTF-8 character at byte i of s, or nil if it is none or a control character.
local function character(s, i)
  local a, b, c, d = string.byte(s, i, i + 3)
  if a < 0x80 then return a >= 0x20 and a ~= 0x7f and 1 or nil end
  if a < 0xc2 or a > 0xf4 or not tail(b) then return nil end
  if a < 0xe0 then return not (a == 0xc2 and b < 0xa0) and 2 or nil end
  if not tail(c) then return nil end
  if a < 0xf0 then
    local long, surrogate = a == 0xe0 and b < 0xa0, a == 0xed and b > 0x9f
    local linebreak = a == 0xe2 and b == 0x80 and (c == 0xa8 or c == 0xa9)
    return not (long or surrogate or linebreak) and 3 or nil
  end
  return tail(d) and not (a == 0xf0 and b < 0x90) and not (a == 0xf4 and b > 0x8f) and 4 or nil
end

local function bad_text(s)
  if #s > 200 then return 'has ' .. #s .. ' bytes, at most 200' end
  local i = 1
  while i <= #s do
    local n = character(s, i)
    if not n then return 'is not UTF-8 without control characters (byte ' .. i .. ')' end
    i = i + n
  end
end

local function bad_number(s)
  local n = string.match(s, '^%d+$') and tonumber(s)
  if not n or n < 1 or n > 1e10 then return 'must be a whole number from 1 to 10000000000' end
end

local function bad_option(name, value)
  if name == 'messages' or name == 'age' then return bad_number(value) end
  if name == 'live' then return value ~= '1' and value ~= '0' and 'must be 1 or 0' or nil end
  if name == 'event' and reserved[value] then return 'is reserved; choose another' end
  return bad_text(value)
end

-- parse returns the options, or nil and what is wrong.
local function parse(keys, args)
  if #keys ~= 1 then return nil, 'want 1 key, the channel, got ' .. #keys end
  if #keys[1] > 200 or not string.match(keys[1], '^[A-Za-z0-9_.:/@~-]+$') then
    return nil, 'bad channel name: 1 to 200 bytes out of A-Z a-z 0-9 _ . : / - @ ~'
  end
  if #args == 0 then return nil, 'the payload is missing' end
  if #args % 2 == 0 then return nil, 'option ' .. string.sub(args[#args], 1, 40) .. ' has no value' end
  local o = { event = '', key = '', id = '', live = '0', messages = '1000', age = '300000', traceparent = '' }
  local given = {}
  for i = 2, #args, 2 do
    local name = string.lower(args[i])
    if not options[name] then
      return nil, 'unknown option ' .. string.sub(args[i], 1, 40) .. ', want event, key, id, live, messages, age or traceparent'
    end
    if given[name] then return nil, 'option ' .. name .. ' is given twice' end
    local wrong = bad_option(name, args[i + 1])
    if wrong then return nil, name .. ' ' .. wrong end
    o[name], given[name] = args[i + 1], true
  end
  return o
end

redis.register_function('sluice_publish', function(keys, args)
  local o, wrong = parse(keys, args)
  if not o then
    -- Line breaks would end the reply early, whoever sent them in an option's name.
    return redis.error_reply('ERR sluice_publish: ' .. string.gsub(wrong, '[^\32-\126]', '?'))
  end
  local base = 'sluice:{' .. keys[1] .. '}:'
  local us, tag = now()
  local seen = o.id ~= '' and (base .. 'i:' .. o.id) or nil
  return publish({ base .. 's', base .. 'm', seen }, {
    args[1], 'PUBLISH', tag, string.format('%.0f', us), o.messages, o.age, meta_age, window,
    o.event, o.key, o.traceparent, o.live,
  })
end)

redis.register_function{
  function_name = 'sluice_version', callback = function() return version end, flags = { 'no-writes' },
}
