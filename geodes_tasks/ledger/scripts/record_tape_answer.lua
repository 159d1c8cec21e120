-- Record the answer of the portal for some files on tape.
-- ARGV: account, worker, seconds for which a worker may poll alone, JSON {online, offline, unknown, wait}
--   unknown: the portal does not say; such a download asks for its file itself, after `wait`
--            seconds and later each time
-- Returns how many go on, or -1 when another worker polls by now.
local account, worker, seconds, answer = ARGV[1], ARGV[2], tonumber(ARGV[3]), cjson.decode(ARGV[4])
local poll, tape, time, made_ready = account_key(account, ':poll'), account_key(account, ':tape'), now(), 0
if call('HGET', poll, 'holder') ~= worker then return -1 end
call('HSET', poll, 'till', stamp(time + seconds))

local function ask_later(id)
  call('ZREM', tape, id)
  if not field(id, 'state') then return end
  local gone = math.min(number(field(id, 'gone'), 1), 12)
  wait_until(id, time + math.min(answer.wait * 2 ^ (gone - 1), 86400))
end

for _, id in ipairs(answer.online) do
  local on_tape = call('ZSCORE', tape, id)
  if on_tape and number(field(id, 'gone')) > 1 then
    -- Twice the portal said that it was online, and it was not.
    ask_later(id)
  elseif on_tape then
    call('ZREM', tape, id)
    -- Copies from tape are kept for a while only: they go first.
    make_ready(id, true)
    made_ready = made_ready + 1
  end
end
for _, id in ipairs(answer.offline) do
  if number(field(id, 'gone')) > 1 then set_fields(id, 'gone', 1) end
end
for _, id in ipairs(answer.unknown) do
  if call('ZSCORE', tape, id) then ask_later(id) end
end
return made_ready
