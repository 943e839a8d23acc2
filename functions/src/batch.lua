-- One batch, as one atomic step. Whatever is asked of Redis here exists since 6.2.
--
-- Before it is sent, the contract's names and limits are put in for `C` and their names.
--
-- ARGV[1]   random text: the epoch, should this be the first state
-- ARGV[2]   MessagePack: a list with WIDTH values for every stream and partition key of the batch:
--   +0 where in ARGV the stream's ARN stands    +5 digits that all these numbers have in common in front
--   +1 partition key                            +6 the highest of them, empty if it is the only one
--   +2 bytes at the key's end that are device   +7 the latest record's, empty if it is the highest
--   +3 number of records                        +8 arrival of the latest record, in milliseconds
--   +4 their sequence numbers, ascending,       +9 its message as JSON
--      spaces between; from the second on
--      without what +5 counts
-- ARGV[3]…  ARNs of the streams
--
-- Answers { new, duplicates, changed devices, evicted devices, seq }; seq is 0 if nothing was new.
--
-- A watermark is a field of its device's hash while the device is kept, and a key of the same name with
-- a time to live afterwards: a call costs more than a field, and renewing a time to live most of all.
--
-- Everything is read, and everything that can fail on foreign data has failed, before the first write:
-- Redis does not take back what a script wrote before its error.

local WIDTH = 10

-- Found at once, where globals are looked for by name.
local redis, string = redis, string

-- Sequence numbers have up to 129 digits, no Lua number holds them.
-- They come without leading zeros, so the longer is the greater; arrivals are compared alike.
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function later(at, sequence, other_at, other_sequence)
  if at ~= other_at then return above(at, other_at) end
  return above(sequence, other_sequence)
end

local function either(text, other)
  if text == '' then return other end
  return text
end

-- Lua's own conversion turns to exponents at 10^14.
local function whole(number)
  return string.format('%d', number)
end

-- Lua's numbers are exact up to 2^53, and its own conversion takes fractions and exponents, too.
local function integer(key, text)
  if not string.find(text, '^%d+$') or tonumber(text) >= 2 ^ 53 then
    error({ err = 'ERR ' .. key .. ' holds something other than a whole number below 2^53' })
  end
  return tonumber(text)
end

-- What is new, by the watermarks.

local groups = cmsgpack.unpack(ARGV[2])
local prefixes = {}
for i = 3, #ARGV do
  prefixes[i] = C.mark_prefix .. ARGV[i] .. ':'
end

local states, by_device = {}, {}
local new, duplicates = 0, 0

for i = 1, #groups, WIDTH do
  local partition_key = groups[i + 1]
  local device = string.sub(partition_key, -groups[i + 2])
  local field = prefixes[groups[i]] .. partition_key
  local state, mark = by_device[device], nil
  if state then
    mark = redis.call('HGET', state.key, field)
  else
    local key = C.device_prefix .. device
    local stored = redis.call('HMGET', key, C.device_count, C.device_at, C.device_sequence, field)
    -- With all fields that it will ever have: a table that grows is made anew.
    state = {
      device = device,
      key = key,
      count = tonumber(stored[1] or '0') or 0,
      at = stored[2] or '',
      sequence = stored[3] or '',
      is_new = not stored[2],
      message = false,
      field = false,
      mark = false,
      others = false,
      text = '',
    }
    by_device[device] = state
    mark = stored[4]
  end
  mark = mark or redis.call('GET', field)

  local records, sequences = groups[i + 3], groups[i + 4]
  local last = either(groups[i + 6], sequences)
  local fresh = records
  if mark and not above(last, mark) then
    fresh = 0
  elseif mark and records > 1 then
    local lowest = string.match(sequences, '^%d+')
    if not above(lowest, mark) then
      fresh = 0
      local front = string.sub(lowest, 1, groups[i + 5])
      for rest in string.gmatch(sequences, ' (%d+)') do
        if above(front .. rest, mark) then fresh = fresh + 1 end
      end
    end
  end
  new = new + fresh
  duplicates = duplicates + records - fresh

  if fresh > 0 then
    if state.field then
      -- Another stream or key of the same device.
      state.others = state.others or {}
      table.insert(state.others, { field, last })
    else
      state.field, state.mark = field, last
      states[#states + 1] = state
    end
    state.count = state.count + fresh
    -- The batch's latest record may itself be a duplicate when arrival times run backwards;
    -- then the device already holds it, and this is false.
    local at, sequence = groups[i + 8], either(groups[i + 7], last)
    if later(at, sequence, state.at, state.sequence) then
      state.at, state.sequence, state.message = at, sequence, groups[i + 9]
    end
  end
end

if new == 0 then
  return { 0, duplicates, 0, 0, 0 }
end

-- The rest of what is needed.

local stored = redis.call('MGET', C.count, C.seq, C.epoch, C.ledger)
if not (stored[1] and stored[2] and stored[3] and stored[4]) then
  -- Not there yet, or of another type, which only GET takes for an error.
  for _, key in ipairs({ C.count, C.seq, C.epoch, C.ledger }) do
    redis.call('GET', key)
  end
end
local count = integer(C.count, stored[1] or '0') + new
local seq = integer(C.seq, stored[2] or '0') + 1
local epoch = stored[3]
if not epoch or seq == 1 then
  epoch = ARGV[1]
end
local at, sequence, bytes = string.match(stored[4] or '  0', '^(%d*) (%d*) (%d+)$')
if not at then
  error({ err = 'ERR ' .. C.ledger .. ' holds something other than three whole numbers' })
end
local best = { at = at, sequence = sequence }
bytes = integer(C.ledger, bytes)
local grows = false
for _, state in ipairs(states) do
  if state.message then
    bytes = bytes + #state.message
    if state.is_new then
      grows = true
    else
      bytes = bytes - redis.call('HSTRLEN', state.key, C.device_latest)
    end
    if later(state.at, state.sequence, best.at, best.sequence) then
      best = state
    end
  else
    if not string.find(state.at, '^%d+$') then
      error({ err = 'ERR ' .. state.key .. ' holds an arrival that is no whole number' })
    end
    state.stored = redis.call('HGET', state.key, C.device_latest)
  end
end
local latest = best.message or redis.call('GET', C.latest) or 'null'
-- Most batches bring no device that is not in the set already.
local kept = grows and redis.call('ZCARD', C.devices)

-- From here on everything is written, the set of devices first: nobody has asked yet whether it is one.

local scores = {}
for _, state in ipairs(states) do
  scores[#scores + 1] = state.at
  scores[#scores + 1] = state.device
end
-- Redis keeps up to 128 short members as a list and walks it for each: at a hundred devices that was a
-- third of all time. A member above 64 bytes makes it a tree, and it stays one without that member.
local first = kept == 0
if first then
  redis.call('ZADD', C.devices, '-inf', string.rep(' ', 65))
end
-- As many at once as Lua's stack certainly holds.
local added = 0
for i = 1, #scores, 1000 do
  added = added + redis.call('ZADD', C.devices, unpack(scores, i, math.min(i + 999, #scores)))
end
if first then
  redis.call('ZPOPMIN', C.devices)
end
if kept then
  kept = kept + added
elseif added > 0 or bytes > C.max_device_bytes then
  kept = redis.call('ZCARD', C.devices)
end

for _, state in ipairs(states) do
  state.text = whole(state.count)
  if state.message then
    redis.call('HSET', state.key, C.device_count, state.text, C.device_latest, state.message,
      C.device_at, state.at, C.device_sequence, state.sequence, state.field, state.mark)
  else
    redis.call('HSET', state.key, C.device_count, state.text, state.field, state.mark)
  end
  if state.others then
    for _, other in ipairs(state.others) do
      redis.call('HSET', state.key, other[1], other[2])
    end
  end
end

-- The longest silent devices go, their watermarks stay: a late retry is no news.

local gone, removed = {}, {}
local mark_prefix = C.mark_prefix
while kept and (kept > C.max_devices or (bytes > C.max_device_bytes and kept > 0)) do
  local device = redis.call('ZPOPMIN', C.devices)[1]
  local key = C.device_prefix .. device
  -- Whatever else bears a device's name goes, too: an error would come too late.
  local length = redis.pcall('HSTRLEN', key, C.device_latest)
  if type(length) == 'number' then
    bytes = bytes - length
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if string.sub(field, 1, #mark_prefix) == mark_prefix then
        redis.call('SET', field, redis.call('HGET', key, field), 'EX', C.mark_ttl)
      end
    end
  end
  redis.call('DEL', key)
  kept = kept - 1
  gone[device] = true
  removed[#removed + 1] = cjson.encode(device)
end
-- A length that somebody else changed must not lead below what the next batch takes.
if kept == 0 or bytes < 0 then bytes = 0 end

local texts = {
  C.count, whole(count), C.seq, whole(seq), C.epoch, epoch,
  C.ledger, best.at .. ' ' .. best.sequence .. ' ' .. whole(bytes),
}
if best.message then
  texts[9], texts[10] = C.latest, latest
end
redis.call('MSET', unpack(texts))

-- Payloads are put together as text and never decoded: a number that a device wrote stays as it wrote it.

local room = C.max_announcement_bytes - 256
if #latest > room then latest = 'null' end
room = room - #latest
local sent, unsent = {}, {}
for _, state in ipairs(states) do
  if not gone[state.device] then
    local name = cjson.encode(state.device)
    local message = state.message or state.stored
    local entry = message and '{"device":' .. name .. ',"count":' .. state.text .. ',"latest":' .. message .. '}'
    if entry and #entry < room then
      sent[#sent + 1] = entry
      room = room - #entry - 1
    else
      unsent[#unsent + 1] = name
    end
  end
end

local announcement = {
  '{"epoch":', cjson.encode(epoch), ',"seq":', texts[4], ',"count":', texts[2], ',"latest":', latest,
  ',"devices":[', table.concat(sent, ','), ']',
}
if #unsent > 0 then
  announcement[#announcement + 1] = ',"unsent":[' .. table.concat(unsent, ',') .. ']'
end
if #removed > 0 then
  announcement[#announcement + 1] = ',"removed":[' .. table.concat(removed, ',') .. ']'
end
announcement[#announcement + 1] = '}'
redis.call('PUBLISH', C.channel, table.concat(announcement))

return { new, duplicates, #states, #removed, seq }
