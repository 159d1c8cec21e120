-- Record the answer of the portal for some files on tape.
-- ARGV: account, worker, seconds for which a worker may poll alone, JSON {online, offline, unknown, wait}
--   unknown: the portal does not say; such a download asks for its file itself, after `wait`
--            seconds and later each time
-- Returns how many go on, or -1 when another worker polls by now.
local account, worker, seconds, answer = ARGV[1], ARGV[2], tonumber(ARGV[3]), cjson.decode(ARGV[4])
local poll, tape, made_ready = account_key(account, ':poll'), account_key(account, ':tape'), 0
if call('HGET', poll, 'holder') ~= worker then return -1 end
call('HSET', poll, 'till', stamp(now + seconds))

local function leave_tape(id, is_online)
  if call('ZREM', tape, id) == 0 then return end
  local d = record(id)
  -- Twice the portal said that it was online, and it was not: it asks for its file later.
  if is_online and number(d.gone) <= 1 then
    -- Copies from tape are kept for a while only: they go first.
    make_ready(d, true)
    made_ready = made_ready + 1
  elseif d.state then
    local times = math.min(number(d.gone, 1), 12)
    wait_until(d, now + math.min(answer.wait * 2 ^ (times - 1), 86400))
  end
end

for _, id in ipairs(answer.online) do leave_tape(id, true) end
for _, id in ipairs(answer.unknown) do leave_tape(id, false) end
for _, id in ipairs(answer.offline) do
  if number(call('HGET', download_key(id), 'gone')) > 1 then call('HSET', download_key(id), 'gone', 1) end
end
return made_ready
