-- Claim the lease of a download for a worker that got its message.
-- ARGV: id, worker, lease seconds, concurrent
-- Returns {verdict, ...}:
--   granted, token, attempt, spec, path, proof, suspect, account, notes, portal pause
--     notes: probe (it tries whether there is quota, or whether a source is back), held:<source>
--       (paused), host:<name> (it needs this host and not the portal), missing (404 the last time)
--     portal pause: why S3 alone may serve it now, '' when the portal may too
--   unknown | running (live lease elsewhere) | finished | early (not due yet)
--   waiting (the account is paused or at its concurrency limit)
--   damaged (the record cannot be understood: it has ended now)
local id, worker, lease_seconds, concurrent = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = now()
local state, account, reason, sources, spec, path, proof, suspect =
  fields(id, 'state', 'account', 'reason', 'sources', 'spec', 'path', 'proof', 'suspect')
local last_error = state == 'RETRY' and decoded(field(id, 'error')) or {}
if not is_whole(id) then
  if call('EXISTS', download_key(id)) == 0 then return { 'unknown' } end
  end_damaged(id)
  return { 'damaged' }
end
local leases = account_key(account, ':leases')
call('ZREM', account_key(account, ':sent'), id)
if ENDED[state] then return { 'finished' } end
-- A dead lease is for recovery to end; until then the download counts as running.
if state == 'STARTED' then return { 'running' } end
local due = call('ZSCORE', P .. 'due', id)
if due and number(due) > time or not due and is_waiting(id, reason, account) then return { 'early' } end
sources = known_sources(sources)
local open = open_lists(account, time)
local server = server_of(open, sources)
if not open[sources] or (server == 'geodes' and probes_left(open.probe) < 1)
    or call('HEXISTS', P .. 'holds', 'batch:' .. served_batch(id)) == 1
    or call('ZCARD', leases) >= concurrency(open.limit, concurrent) then
  call('ZREM', P .. 'due', id)
  make_ready(id, true)
  return { 'waiting' }
end
-- Never lower than the clock, so that tokens go on rising when Redis has lost its last second.
local token = integer(math.max(number(call('GET', P .. 'fence')) + 1, math.floor(time * 1000)))
call('SET', P .. 'fence', token)
move(id, 'STARTED')
local attempt = call('HINCRBY', download_key(id), 'attempts', 1)
call('HSET', download_key(id), 'token', token, 'worker', worker, 'started', stamp(time),
  'counted', 0, 'speed', '')
call('ZADD', leases, stamp(time + lease_seconds), id)
local notes = begin_outage_probe(server, time)
if server == 'geodes' and open.probe then notes = begin_probe(id, account, time) end
if host_of(id) ~= 'geodes' then notes = notes .. ' host:' .. host_of(id) end
if last_error.type == 'NotFoundError' then notes = notes .. ' missing' end
if open.geodes_paused then notes = notes .. ' held:geodes' end
if open.s3_paused then notes = notes .. ' held:s3' end
return { 'granted', token, attempt, spec or '', path or '', proof or '', suspect or '', account, notes,
  server == 's3' and open.why[web_host(sources)] or '' }
