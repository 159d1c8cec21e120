-- One worker asks for the lease of a download that a message woke it up for.
-- ARGV: id, worker, lease seconds, concurrent
-- Returns {verdict, ...}:
--   granted, token, attempt, spec, path, proof, suspect, account, notes, portal pause
--     notes: probe (it tries whether there is quota), held:<source> (not to be asked)
--     portal pause: why S3 alone may serve it now, '' when the portal may too
--   unknown | running (live lease elsewhere) | finished | early (not due yet) | waiting (no place)
--   damaged (the record cannot be understood: it has ended now)
local id, worker, lease_seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = field(id, 'state')
if redis.call('EXISTS', download(id)) == 0 then return { 'unknown' } end
local account, time = field(id, 'account'), now()
if not is_whole(id) then
  bury(id)
  return { 'damaged' }
end
local leases = account_key(account, ':leases')
redis.call('ZREM', account_key(account, ':sent'), id)
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then return { 'finished' } end
-- A dead lease is for the recovery step to end; until then the download counts as running.
if state == 'STARTED' then return { 'running' } end
local due = redis.call('ZSCORE', P .. 'due', id)
if due and number(due) > time then return { 'early' } end
if not due and waits(id, state) then return { 'early' } end
local open, sources = open_lists(account, time), sources_of(id)
local over_s3 = is_over_s3(open, sources)
local held = redis.call('EXISTS', P .. 'holds') == 1 and is_held(batch_of(id))
if held or not open[sources] or (not over_s3 and probes_left(account) < 1)
    or redis.call('ZCARD', leases) >= places_of(account, tonumber(ARGV[4])) then
  redis.call('ZREM', P .. 'due', id)
  make_ready(id, true)
  return { 'waiting' }
end
-- Never lower than the clock, so that tokens go on rising when Redis has lost its last second.
local token = math.max(number(redis.call('GET', P .. 'fence')) + 1, math.floor(time * 1000))
token = string.format('%.0f', token)
redis.call('SET', P .. 'fence', token)
move(id, 'STARTED')
local attempt = redis.call('HINCRBY', download(id), 'attempts', 1)
redis.call('HSET', download(id), 'token', token, 'worker', worker, 'started', stamp(time))
redis.call('ZADD', leases, stamp(time + lease_seconds), id)
redis.call('SADD', P .. 'accounts', account)
local notes = over_s3 and '' or account_notes(id, account, time)
if open.held_geodes then notes = notes .. ' held:geodes' end
if open.held_s3 then notes = notes .. ' held:s3' end
return { 'granted', token, attempt, field(id, 'spec') or '', field(id, 'path') or '',
  field(id, 'proof') or '', field(id, 'suspect') or '', account, notes, over_s3 and open.why or '' }
