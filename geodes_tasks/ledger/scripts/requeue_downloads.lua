-- Make downloads ready again that wait in a sorted set of times: of messages that are lost, of due
-- times that have come, of files on tape that are back, or of keys that a user replaced (`since:auth`:
-- those wait for their turn again). Another worker may have done it meanwhile.
-- ARGV: the set, latest time (seconds), id, id, ...
-- Returns how many were made ready.
local waiting, latest, requeued = P .. ARGV[1], tonumber(ARGV[2]), 0
local has_new_key = waiting == P .. 'since:auth'
for index = 3, #ARGV do
  local since, d = call('ZSCORE', waiting, ARGV[index]), record(ARGV[index])
  if since and number(since) <= latest then
    call('ZREM', waiting, d.id)
    if is_queued(d) then
      requeued = requeued + 1
      if has_new_key then
        move(d, 'PENDING', {})
        clear(d, 'error')
      end
    end
    if is_queued(d) or not is_whole(d) then make_ready(d, true) end
  end
end
return requeued
