-- One batch, as one atomic step. Whatever is asked of Redis here exists since 6.2.
--
-- In front of this text stands a table `C` of names and limits, made from the contract.
--
-- ARGV[1]  random text: the epoch, should this be the first state
-- then, for every stream and partition key of the batch:
--   +0 key of the watermark        +4 highest sequence number
--   +1 device                      +5 arrival of the latest record, in milliseconds
--   +2 number of records           +6 its sequence number
--   +3 their sequence numbers,     +7 its message as JSON
--      ascending, spaces between
-- A single record's number stands in +3 alone, +4 and +6 are empty: there may be ten thousand of them.
--
-- Answers { new, duplicates, changed devices, evicted devices, seq }; seq is 0 if nothing was new.
--
-- Everything is read, and everything that can fail on foreign data has failed, before the first write:
-- Redis does not take back what a script wrote before its error.

local WIDTH = 8

-- Sequence numbers have up to 129 digits, no Lua number holds them.
-- They come without leading zeros, so the longer is the greater.
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function later(at, sequence, other_at, other_sequence)
  if at ~= other_at then return at > other_at end
  return above(sequence, other_sequence)
end

local function only(sequence, sequences)
  if sequence == '' then return sequences end
  return sequence
end

-- Lua's own conversion turns to exponents at 10^14.
local function whole(number)
  return string.format('%.0f', number)
end

local function integer(key)
  local text = redis.call('GET', key)
  local number = tonumber(text or '0')
  if not number then
    error({ err = 'ERR ' .. key .. ' holds something other than an integer' })
  end
  return number
end

-- What is new, by the watermarks.

local states, by_device, marks = {}, {}, {}
local new, duplicates = 0, 0

for i = 2, #ARGV, WIDTH do
  local device, sequences = ARGV[i + 1], ARGV[i + 3]
  local last = only(ARGV[i + 4], sequences)
  local records = tonumber(ARGV[i + 2])
  local fresh = records
  local mark = redis.call('GET', ARGV[i])
  if mark and not above(last, mark) then
    fresh = 0
  elseif mark and not above(string.match(sequences, '^%d+'), mark) then
    fresh = 0
    for sequence in string.gmatch(sequences, '%d+') do
      if above(sequence, mark) then fresh = fresh + 1 end
    end
  end
  new = new + fresh
  duplicates = duplicates + records - fresh

  if fresh > 0 then
    marks[#marks + 1] = i
    local state = by_device[device]
    if not state then
      local key = C.device_prefix .. device
      local stored = redis.call('HMGET', key, C.device_count, C.device_at, C.device_sequence)
      state = {
        device = device,
        key = key,
        count = tonumber(stored[1] or '0') or 0,
        at = tonumber(stored[2] or '-1') or -1,
        sequence = stored[3] or '',
      }
      by_device[device] = state
      states[#states + 1] = state
    end
    state.count = state.count + fresh
    -- The batch's latest record may itself be a duplicate when arrival times run backwards;
    -- then the device already holds it, and this is false.
    local at, sequence = tonumber(ARGV[i + 5]), only(ARGV[i + 6], sequences)
    if later(at, sequence, state.at, state.sequence) then
      state.at, state.sequence, state.message = at, sequence, ARGV[i + 7]
    end
  end
end

if new == 0 then
  return { 0, duplicates, 0, 0, 0 }
end

-- The rest of what is needed.

local ledger = redis.call('HMGET', C.ledger, C.ledger_at, C.ledger_sequence, C.ledger_bytes)
local best = { at = tonumber(ledger[1] or '-1') or -1, sequence = ledger[2] or '' }
local bytes = tonumber(ledger[3] or '0') or 0
for _, state in ipairs(states) do
  if state.message then
    bytes = bytes + #state.message - redis.call('HSTRLEN', state.key, C.device_latest)
    if later(state.at, state.sequence, best.at, best.sequence) then
      best = state
    end
  else
    state.stored = redis.call('HGET', state.key, C.device_latest)
  end
end
local latest = best.message or redis.call('GET', C.latest) or 'null'
local epoch = redis.call('GET', C.epoch)
integer(C.count)
integer(C.seq)
redis.call('ZCARD', C.devices)

-- From here on everything is written.

for _, i in ipairs(marks) do
  redis.call('SET', ARGV[i], only(ARGV[i + 4], ARGV[i + 3]), 'EX', C.mark_ttl)
end

for _, state in ipairs(states) do
  if state.message then
    redis.call('HSET', state.key, C.device_count, whole(state.count), C.device_latest, state.message,
      C.device_at, whole(state.at), C.device_sequence, state.sequence)
  else
    redis.call('HSET', state.key, C.device_count, whole(state.count))
  end
  redis.call('ZADD', C.devices, whole(state.at), state.device)
end

if best.message then
  redis.call('SET', C.latest, best.message)
  redis.call('HSET', C.ledger, C.ledger_at, whole(best.at), C.ledger_sequence, best.sequence)
end

local count = redis.call('INCRBY', C.count, new)
local seq = redis.call('INCR', C.seq)
if not epoch or seq == 1 then
  epoch = ARGV[1]
  redis.call('SET', C.epoch, epoch)
end

-- The longest silent devices go, their watermarks stay: a late retry is no news.

local kept = redis.call('ZCARD', C.devices)
local gone, removed = {}, {}
while kept > C.max_devices or (bytes > C.max_device_bytes and kept > 0) do
  local device = redis.call('ZPOPMIN', C.devices)[1]
  local key = C.device_prefix .. device
  bytes = bytes - redis.call('HSTRLEN', key, C.device_latest)
  redis.call('DEL', key)
  kept = kept - 1
  gone[device] = true
  removed[#removed + 1] = cjson.encode(device)
end
if kept == 0 then bytes = 0 end
redis.call('HSET', C.ledger, C.ledger_bytes, whole(bytes))

-- Payloads are put together as text and never decoded: a number that a device wrote stays as it wrote it.

local room = C.max_announcement_bytes - 256
if #latest > room then latest = 'null' end
room = room - #latest
local sent, unsent = {}, {}
for _, state in ipairs(states) do
  if not gone[state.device] then
    local name = cjson.encode(state.device)
    local message = state.message or state.stored
    local entry = message and '{"device":' .. name .. ',"count":' .. whole(state.count) .. ',"latest":' .. message .. '}'
    if entry and #entry < room then
      sent[#sent + 1] = entry
      room = room - #entry - 1
    else
      unsent[#unsent + 1] = name
    end
  end
end

local announcement = {
  '{"epoch":', cjson.encode(epoch), ',"seq":', whole(seq), ',"count":', whole(count), ',"latest":', latest,
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
