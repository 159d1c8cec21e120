-- Begin downloads of a batch anew that failed, were cancelled or wait.
-- ARGV: id, id, ...
-- Returns how many begin anew.
local begun, run = 0, call('GET', P .. 'run')

-- What was refused when it was enqueued has no path; a path that another file has since stays there.
local function may_begin(d)
  if (d.path or '') == '' then return false end
  if d.state == 'RETRY' then return true end
  if d.state ~= 'FAILURE' and d.state ~= 'REVOKED' then return false end
  local other = record(call('HGET', P .. 'paths', d.path) or '')
  if other.id ~= d.id then end_left_over(other) end
  return other.id == d.id or not (ACTIVE[other.state] or other.state == 'SUCCESS')
    or share_folder(decoded(d.spec), decoded(other.spec))
end

for _, id in ipairs(ARGV) do
  local d = record(id)
  if may_begin(d) then
    -- On a private server this run works on the batches again or, between two runs, the next one.
    for _, name in ipairs(run and d.names or {}) do
      call('SREM', P .. 'earlier', name)
      if run == 'off' then call('SADD', P .. 'wanted', name) end
    end
    move(d, 'PENDING', { attempts = 0 })
    call('HSET', P .. 'paths', d.path, id)
    clear(d, 'error', 'finished', 'suspect', 'cancel', 'deaths', 'gone', 'offline_since')
    make_ready(d, true)
    begun = begun + 1
  end
end
return begun
