-- Claim the lease of a download for a worker that got its message.
-- ARGV: id, worker, lease seconds, concurrent
-- Returns {verdict, ...}:
--   granted, token, attempt, spec, path, proof, suspect, account, notes, portal pause
--     notes: probe (it tries whether there is quota, or whether a source is back), held:<source>
--       (paused), host:<name> (it needs this host and not the portal), missing (404 the last time),
--       taken-over (the worker of the attempt before died)
--     portal pause: why S3 alone may serve it now, '' when the portal may too
--   unknown | running (live lease elsewhere) | finished | early (not due yet)
--   waiting (the account is paused or at its concurrency limit)
--   damaged (the record cannot be understood: end_damaged_download.lua ends it)
local id, worker, lease_seconds, concurrent = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local d = record(id)
if not is_whole(d) then return { call('EXISTS', d.key) == 1 and 'damaged' or 'unknown' } end
local leases = account_key(d.account, ':leases')
call('ZREM', account_key(d.account, ':sent'), id)
if ENDED[d.state] then return { 'finished' } end
-- A dead lease is for recovery to end; until then the download counts as running.
if d.state == 'STARTED' then return { 'running' } end
if d.state == 'RETRY' and is_waiting(id, d.reason, d.account) then return { 'early' } end
local sources, a = known_sources(d.sources), load_account(d.account)
local open = open_lists(a)
local server = server_of(open, sources)
if not open[sources] or (by_portal(server) and probes_left(a.probe) < 1) or are_batches_paused(d)
    or call('ZCARD', leases) >= concurrency(a, concurrent) then
  call('ZREM', P .. 'due', id)
  enqueue(d, true)
  return { 'waiting' }
end

-- The notes for the worker; the attempt may be the one that tries for all others.
local portal, error_before = by_portal(server) and 'geodes', decoded(d.error) or {}
local notes = (begins_probe(open, server) or portal and begins_probe(open, portal)) and 'probe' or ''
if portal and a.probe then
  set(a, { probe = id, probed = now_text })
  notes = 'probe'
end
if host_of(d) ~= 'geodes' then notes = notes .. ' host:' .. host_of(d) end
if error_before.type == 'NotFoundError' then notes = notes .. ' missing' end
if d.reason == 'worker-lost' then notes = notes .. ' taken-over' end
if open.geodes_paused then notes = notes .. ' held:geodes' end
if open.s3_paused then notes = notes .. ' held:s3' end

-- Never lower than the clock, so that tokens go on rising when Redis has lost its last second.
local token = string.format('%.0f', math.max(number(call('GET', P .. 'fence')) + 1, math.floor(now * 1000)))
call('SET', P .. 'fence', token)
move(d, 'STARTED', { attempts = number(d.attempts) + 1, token = token, worker = worker, started = now_text })
call('ZADD', leases, stamp(now + lease_seconds), id)
return { 'granted', token, d.attempts, d.spec or '', d.path or '', d.proof or '', d.suspect or '',
  d.account, notes, server == 's3' and open.why[web_host(sources)] or '' }
