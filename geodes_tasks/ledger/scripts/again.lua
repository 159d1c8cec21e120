-- Ask again for downloads of a batch that failed or were cancelled, or that wait.
-- ARGV: batch, id, id, ...   Returns how many begin anew.
local batch, begun = ARGV[1], 0
for index = 2, #ARGV do
  local id = ARGV[index]
  local state = field(id, 'state')
  if state == 'FAILURE' or state == 'REVOKED' or state == 'RETRY' then
    -- A refusal at the door has no href to open: only a new item can mend it.
    if field(id, 'path') ~= '' then
      move(id, 'PENDING')
      redis.call('HSET', download(id), 'attempts', 0)
      redis.call('HDEL', download(id), 'error', 'finished', 'suspect', 'cancel')
      make_ready(id, true)
      begun = begun + 1
    end
  end
end
return begun
