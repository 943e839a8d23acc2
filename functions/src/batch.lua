-- Counts one batch in one atomic step. Needs Redis 6.2 or later.
--
-- Before it is sent, each `C` with a name is replaced by the constant of the contract, or by a limit.
--
-- ARGV[1]   random text: the epoch, if this is the first state
-- ARGV[2]   MessagePack: a list with WIDTH values for each stream and partition key of the batch:
--   +0 index of the stream's ARN in ARGV       +5 length of the common prefix of these numbers
--   +1 partition key                           +6 the highest of them, empty if it is the only one
--   +2 length of the device at the key's end   +7 the latest record's, empty if it is the highest
--   +3 number of records                       +8 arrival of the latest record, in milliseconds
--   +4 their sequence numbers, ascending,      +9 its message as JSON
--      separated by spaces; all but the
--      first without the common prefix
-- ARGV[3]…  ARNs of the streams
--
-- Returns { new, duplicates, changed devices, evicted devices, seq }; seq is 0 if nothing was new.
--
-- A watermark is a field of its device's hash while the device is kept, and afterwards a key of the same
-- name with a time to live: a field costs less than a call, and renewing a time to live costs most.
--
-- Everything is read, and data of other programs is checked, before the first write: Redis does not undo
-- the writes of a script that fails.

local WIDTH = 10

-- Locals are faster than globals.
local redis, string = redis, string

-- Compares sequence numbers, which have up to 129 digits, more than a Lua number, and no leading zeros.
-- Arrivals are compared in the same way.
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

-- Lua's own conversion uses exponents from 10^14 on.
local function whole(number)
  return string.format('%d', number)
end

-- Lua's numbers are exact up to 2^53, and its own conversion accepts fractions and exponents.
local function integer(key, text)
  if not string.find(text, '^%d+$') or tonumber(text) >= 2 ^ 53 then
    error({ err = 'ERR ' .. key .. ' is not an integer below 2^53' })
  end
  return tonumber(text)
end

-- Find the new records by the watermarks.

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
    -- With all fields from the start: a table that grows is reallocated.
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
    -- If arrival times decrease, the batch's latest record may be a duplicate, which the device already has.
    local at, sequence = groups[i + 8], either(groups[i + 7], last)
    if later(at, sequence, state.at, state.sequence) then
      state.at, state.sequence, state.message = at, sequence, groups[i + 9]
    end
  end
end

if new == 0 then
  return { 0, duplicates, 0, 0, 0 }
end

-- Read the rest of the state.

local stored = redis.call('MGET', C.count, C.seq, C.epoch, C.ledger)
if not (stored[1] and stored[2] and stored[3] and stored[4]) then
  -- Missing, or of another type, for which only GET fails.
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
  error({ err = 'ERR ' .. C.ledger .. ' is not three integers' })
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
      error({ err = 'ERR ' .. state.key .. ' has an arrival that is not an integer' })
    end
    state.stored = redis.call('HGET', state.key, C.device_latest)
  end
end
local latest = best.message or redis.call('GET', C.latest) or 'null'
-- Most batches add no device to the set.
local kept = grows and redis.call('ZCARD', C.devices)

-- Write, the set of devices first: its type is not checked yet.

local scores = {}
for _, state in ipairs(states) do
  scores[#scores + 1] = state.at
  scores[#scores + 1] = state.device
end
-- Redis stores a set of up to 128 short members as a list, with linear search: a third of all time at a
-- hundred devices. A member above 64 bytes converts the list to a tree for good.
local first = kept == 0
if first then
  redis.call('ZADD', C.devices, '-inf', string.rep(' ', 65))
end
-- At most 1,000 arguments a call, which fit Lua's stack.
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

-- Evict the longest silent devices. Their watermarks stay, so that a late retry is not counted.

local gone, removed = {}, {}
local mark_prefix = C.mark_prefix
while kept and (kept > C.max_devices or (bytes > C.max_device_bytes and kept > 0)) do
  local device = redis.call('ZPOPMIN', C.devices)[1]
  local key = C.device_prefix .. device
  -- Also if the key is of another type: an error here would come after the first writes.
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
-- If another program changed a message's length, the sum must not become negative.
if kept == 0 or bytes < 0 then bytes = 0 end

local texts = {
  C.count, whole(count), C.seq, whole(seq), C.epoch, epoch,
  C.ledger, best.at .. ' ' .. best.sequence .. ' ' .. whole(bytes),
}
if best.message then
  texts[9], texts[10] = C.latest, latest
end
redis.call('MSET', unpack(texts))

-- Payloads are concatenated as text and not decoded, so that numbers stay as the device wrote them.

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
