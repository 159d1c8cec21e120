-- Begin downloads of a batch anew that failed, were cancelled or wait.
-- ARGV: id, id, ...
-- Returns how many begin anew.
local begun, run = 0, call('GET', P .. 'run')

-- What was refused when it was enqueued has no path; a path that another file has since stays there.
local function may_begin(id)
  local state, path = fields(id, 'state', 'path')
  if state == 'RETRY' then return true end
  if (state ~= 'FAILURE' and state ~= 'REVOKED') or path == '' then return false end
  local owner = call('HGET', P .. 'paths', path)
  if owner and owner ~= id then end_left_over(owner) end
  local other = owner and owner ~= id and field(owner, 'state')
  return not other or other == 'FAILURE' or other == 'REVOKED'
end

-- On a private server this run works on the batch again or, between two runs, the next one.
local function take_up(id)
  for _, name in ipairs(run and batches_of(id) or {}) do
    call('SREM', P .. 'earlier', name)
    if run == 'off' then call('SADD', P .. 'wanted', name) end
  end
end

for _, id in ipairs(ARGV) do
  if may_begin(id) then
    take_up(id)
    move(id, 'PENDING')
    call('HSET', P .. 'paths', field(id, 'path'), id)
    set_fields(id, 'attempts', 0)
    call('HDEL', download_key(id), 'error', 'finished', 'suspect', 'cancel', 'gone', 'offline_since')
    make_ready(id, true)
    begun = begun + 1
  end
end
return begun
