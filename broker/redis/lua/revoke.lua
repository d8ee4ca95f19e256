-- What is revoked. Two keys, in one slot, and a Pub/Sub channel; no channel of Sluice's is named "!".
--   PREFIX:{!}:u  sorted set: "KIND VALUE" by the time until which it has to be remembered, ms
--   PREFIX:{!}:w  hash: "KIND VALUE" to the time when it was made, ms; the field "" names the state of the list, another
--                 one after each change
--   PREFIX:{!}:r  Pub/Sub channel of announcements, "1 PREVIOUS STATE KIND VALUE"; PREVIOUS is "-" if there was none.
--                 They say only where to look: who may PUBLISH there and not write the keys can revoke nothing
-- KIND is 1 token, 2 subject, 3 session.

-- Nodes whose clock is behind Redis' by less than this are still told.
local slack = 60000
-- Milliseconds of the year 9999: a score beyond it is somebody else's, and no time.
local latest = 253402300799999

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- short returns s, or '' if it is longer than anything that Sluice writes.
local function short(s, most) return s and #s <= most and s or '' end

-- current returns the name of the list's state, '' if there is none.
local function current(ends, made)
  return redis.call('EXISTS', ends) == 1 and short(redis.call('HGET', made, ''), 40) or ''
end

-- forget removes what has ended.
local function forget(ends, made, now)
  repeat
    local old = redis.call('ZRANGEBYSCORE', ends, '-inf', string.format('%.0f', now - slack), 'LIMIT', 0, 1000)
    if #old > 0 then
      redis.call('ZREM', ends, unpack(old))
      redis.call('HDEL', made, unpack(old))
    end
  until #old < 1000
end

-- revoke stores and announces, atomically. The later of two times counts.
-- KEYS ends, made
-- ARGV 1 PUBLISH or SPUBLISH, "" to announce nothing, 2 channel, 3 name of the new state, 4 how many may be stored,
--      then for each: "KIND VALUE", made ms, until ms
-- reply how many are stored now
local function revoke(keys, a)
  local ends, made = keys[1], keys[2]
  local now, most = clock(), tonumber(a[4])
  local from = current(ends, made)
  local word = '1 ' .. (from == '' and '-' or from) .. ' ' .. a[3] .. ' '
  forget(ends, made, now)
  local n, full = redis.call('ZCARD', ends), false
  for i = 5, #a, 3 do
    local known = redis.call('ZSCORE', ends, a[i])
    if not known and n >= most then
      full = true
    elseif known or tonumber(a[i + 2]) > now - slack then
      if not known then n = n + 1 end
      local at = known and tonumber(redis.call('HGET', made, a[i]) or 0) or 0
      if tonumber(a[i + 1]) > at then redis.call('HSET', made, a[i], a[i + 1]) end
      if not known or tonumber(a[i + 2]) > tonumber(known) then redis.call('ZADD', ends, a[i + 2], a[i]) end
      if a[1] ~= '' then redis.call(a[1], a[2], word .. a[i]) end
    end
  end
  if n > 0 then
    redis.call('HSET', made, '', a[3])
    local last = tonumber(redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2])
    local gone = string.format('%.0f', math.min(last, latest) + slack)
    redis.call('PEXPIREAT', ends, gone)
    redis.call('PEXPIREAT', made, gone)
  end
  if full then return redis.error_reply('ERR sluice_revoke: full') end
  return n
end

-- revoked answers what is revoked: all of it, unless the list is still in the state that is known, or what is asked for.
-- KEYS ends, made
-- ARGV 1 name of the known state or "", 2 how many at most, then each "KIND VALUE" that is asked for; none: all
-- reply {name of the state, 1 if it is another, {"KIND VALUE", made ms, until ms, …}}; '' for what can't be Sluice's
local function revoked(keys, a)
  local ends, made = keys[1], keys[2]
  local state, list = current(ends, made), {}
  if #a > 2 then
    for i = 3, #a do
      local till = redis.call('ZSCORE', ends, a[i])
      if till then
        list[#list + 1], list[#list + 2], list[#list + 3] = a[i], short(redis.call('HGET', made, a[i]), 20), till
      end
    end
    return { state, 0, list }
  end
  if state ~= '' and state == a[1] then return { state, 0, list } end
  local all = redis.call('ZRANGEBYSCORE', ends, string.format('%.0f', clock() - slack), '+inf', 'WITHSCORES', 'LIMIT', 0, a[2])
  for from = 1, #all, 2000 do
    local names = {}
    for i = from, math.min(from + 1999, #all), 2 do names[#names + 1] = all[i] end
    local times = redis.call('HMGET', made, unpack(names))
    for i, name in ipairs(names) do
      list[#list + 1], list[#list + 2], list[#list + 3] = short(name, 514), short(times[i], 20), all[from + 2 * i - 1]
    end
  end
  return { state, 1, list }
end
