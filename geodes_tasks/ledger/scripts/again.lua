-- Ask again for downloads of a batch that failed or were cancelled, or that wait.
-- ARGV: batch, id, id, ...   Returns how many begin anew.
local batch, begun = ARGV[1], 0

-- A refusal at the door has no path; a path that went to another file since is not taken back.
local function may_begin(id)
  local state, path = field(id, 'state'), field(id, 'path')
  if state == 'RETRY' then return true end
  if (state ~= 'FAILURE' and state ~= 'REVOKED') or path == '' then return false end
  local owner = redis.call('HGET', P .. 'paths', path)
  if owner and owner ~= id then end_abandoned(owner) end
  local other = owner and owner ~= id and field(owner, 'state')
  return not other or other == 'FAILURE' or other == 'REVOKED'
end

for index = 2, #ARGV do
  local id = ARGV[index]
  if may_begin(id) then
    move(id, 'PENDING')
    redis.call('HSET', P .. 'paths', field(id, 'path'), id)
    redis.call('HSET', download(id), 'attempts', 0)
    redis.call('HDEL', download(id), 'error', 'finished', 'suspect', 'cancel', 'gone', 'offline_since')
    make_ready(id, true)
    begun = begun + 1
  end
end
return begun
