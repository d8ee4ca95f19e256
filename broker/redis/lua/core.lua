-- What all of Sluice's functions share. Go puts a head before this file and the registrations after it.
--
-- A channel's keys are in one slot; PREFIX:{CHANNEL} is in front of all of them:
--   :s      stream, the history. Fields: p previous position, x tag, t time in µs, d payload [, e event, k key, c traceparent]
--   :m      last position (meta). It outlives the stream, so that a channel whose history expired keeps its line
--   :i:ID   position of the publish with this idempotency key
--   :a      Pub/Sub channel of the announcements:
--           "1 PREVIOUS POSITION TIME #EVENT #KEY #TRACE " and then event, key, traceparent and payload, nothing between them;
--           of a live message PREVIOUS and POSITION are "-"
--
-- A position is "MS-SEQ-TAG": the stream ID and four hex digits that tell apart two messages to which two
-- masters gave the same ID in a split brain. Order: (MS, SEQ). Identity: all three.

local function split(position)
  local ms, seq = string.match(position, '^(%d+)-(%d+)')
  return tonumber(ms), tonumber(seq)
end

-- newer reports whether stream ID a is after position b. Nearly always the milliseconds tell: 13 digits until 2286.
local function newer(a, b)
  if string.sub(a, 1, 14) > string.sub(b, 1, 14) and string.find(a, '-', 14, true) == 14 and string.find(b, '-', 14, true) == 14 then
    return true
  end
  local ams, aseq = split(a)
  local bms, bseq = split(b)
  return ams > bms or (ams == bms and aseq > bseq)
end

-- now returns microseconds and, from them, a tag for those who have no random one.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2], string.format('%04x', t[2] % 65536)
end

-- begin finds the position of a channel whose meta is missing: that of its newest entry if meta alone was evicted,
-- else a genesis. A genesis is a time stamp, so every token from an earlier life of the channel is before it.
local function begin(stream)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if last then
    for i = 1, #last[2], 2 do
      if last[2][i] == 'x' then return last[1] .. '-' .. last[2][i + 1], false end
    end
  end
  redis.call('DEL', stream)
  local us, tag = now()
  return string.format('%.0f-0-%s', math.floor(us / 1000), tag), true
end

-- publish stores and announces one message, atomically.
-- KEYS stream, meta [, idempotency]
-- ARGV 1 payload, 2 PUBLISH or SPUBLISH, 3 tag, 4 time µs, 5 messages and 6 age ms to keep, 7 age of meta ms,
--      8 idempotency window ms, 9 event, 10 key, 11 traceparent, 12 "1" if live
-- reply {position, 0}; {position of the first, 1} for a duplicate; a live message's position is ''
local function publish(keys, a)
  local stream, meta, seen = keys[1], keys[2], keys[3]
  if seen then
    local first = redis.call('GET', seen)
    if first then return { first, 1 } end
  end
  local channel = string.sub(stream, 1, -2) .. 'a'
  local event, key, trace = a[9], a[10], a[11]
  local rest = string.format(' %s %d %d %d ', a[4], #event, #key, #trace) .. event .. key .. trace .. a[1]
  if a[12] == '1' then
    if seen then redis.call('SET', seen, '', 'PX', a[8]) end
    redis.call(a[2], channel, '1 - -' .. rest)
    return { '', 0 }
  end

  local last, want, fresh = redis.call('GET', meta), '*', false
  if not last then
    last, fresh = begin(stream)
    if fresh then want = string.match(last, '^%d+') .. '-1' end
  end
  local entry = { 'XADD', stream, 'MAXLEN', a[5], want, 'p', last, 'x', a[3], 't', a[4], 'd', a[1] }
  local n = #entry
  if event ~= '' then entry[n + 1], entry[n + 2], n = 'e', event, n + 2 end
  if key ~= '' then entry[n + 1], entry[n + 2], n = 'k', key, n + 2 end
  if trace ~= '' then entry[n + 1], entry[n + 2] = 'c', trace end
  local id = redis.call(unpack(entry))
  if not newer(id, last) then
    -- The stream had expired, so Redis forgot its last ID, and the clock has gone back behind it.
    redis.call('XDEL', stream, id)
    local ms, seq = split(last)
    id = string.format('%.0f-%.0f', ms, seq + 1)
    entry[5] = id
    redis.call(unpack(entry))
  end
  redis.call('PEXPIRE', stream, a[6])
  local position = id .. '-' .. a[3]
  -- A stream must not outlive its meta.
  redis.call('SET', meta, position, 'PX', math.max(a[7], a[6] + 60000))
  if seen then redis.call('SET', seen, position, 'PX', a[8]) end
  redis.call(a[2], channel, '1 ' .. last .. ' ' .. position .. rest)
  return { position, 0 }
end

-- slim empties entries of more than so many bytes: they can't be Sluice's, and a node would have to hold them all to drop them.
local function slim(entries, most)
  for i, entry in ipairs(entries) do
    local size = 0
    for _, text in ipairs(entry[2]) do size = size + #text end
    if size > most then entries[i] = { entry[1], {} } end
  end
  return entries
end

-- read answers the last position of a channel and a part of its history, in one atomic step.
-- KEYS stream, meta
-- ARGV 1 "head", "after" or "newest", 2 stream ID (of "after" the first, of "newest" the last that may come, both
--      included), 3 how many, 4 age of meta ms, 5 the most bytes of an entry
-- reply {last position, entries}; the entries of "newest" are newest first, those that are too large have no fields
local function read(keys, a)
  local stream, meta = keys[1], keys[2]
  local last = redis.call('GET', meta)
  if not last then
    last = begin(stream)
    redis.call('SET', meta, last, 'PX', a[4])
  elseif redis.call('PTTL', meta) < a[4] / 2 then -- not at every read: it is a write, and goes to the replicas
    redis.call('PEXPIRE', meta, a[4])
  end
  local entries = {}
  if a[1] == 'after' then
    entries = redis.call('XRANGE', stream, a[2], '+', 'COUNT', a[3])
  elseif a[1] == 'newest' then
    entries = redis.call('XREVRANGE', stream, a[2], '-', 'COUNT', a[3])
  end
  return { last, slim(entries, tonumber(a[5])) }
end
