-- What the portal says of some files on tape.
-- ARGV: account, worker, seconds that the right to ask lasts, JSON {online, offline, unknown, wait}
--   unknown: the portal does not say; such a download asks for its file itself, after `wait`
--            seconds and later each time
-- Returns how many go on, or -1 when the right to ask is another worker's.
local account, worker, time = ARGV[1], ARGV[2], now()
local poll, tape = account_key(account, ':poll'), account_key(account, ':tape')
if redis.call('HGET', poll, 'holder') ~= worker then return -1 end
redis.call('HSET', poll, 'till', stamp(time + tonumber(ARGV[3])))
local said, released = cjson.decode(ARGV[4]), 0

local function later(id)
  if not field(id, 'state') then return redis.call('ZREM', tape, id) end
  local gone = math.min(number(field(id, 'gone'), 1), 12)
  local due = time + math.min(said.wait * 2 ^ (gone - 1), 86400)
  redis.call('ZREM', tape, id)
  redis.call('ZADD', P .. 'due', stamp(due), id)
  redis.call('HSET', download(id), 'due', stamp(due))
end

for _, id in ipairs(said.online) do
  if redis.call('ZSCORE', tape, id) then
    if number(field(id, 'gone')) > 1 then
      -- Twice it was said to be online, and was not.
      later(id)
    else
      redis.call('ZREM', tape, id)
      -- Copies from tape are kept for a while only: they go first.
      make_ready(id, true)
      released = released + 1
    end
  end
end
for _, id in ipairs(said.offline) do
  if number(field(id, 'gone')) > 1 then redis.call('HSET', download(id), 'gone', 1) end
end
for _, id in ipairs(said.unknown) do
  if redis.call('ZSCORE', tape, id) then later(id) end
end
return released
