-- Record the proven file of an attempt.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: outcome, verified, bytes, source, sources, collection, proof, size, checksum
-- Returns {'lost'} or {'ok', id, spec, id, spec, ...}: what to send messages for now.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local account, started = end_lease(id, token)
if not account then return { 'lost' } end
local time = now()
move(id, 'SUCCESS', nil, report.outcome)
count_in_batches(id, 'bytes_total', report.size - number(field(id, 'size')))
set_fields(id, 'verified', report.verified and '1' or '0', 'proof', report.proof, 'finished', stamp(time),
  'checksum', report.checksum, 'source', report.source, 'size', integer(report.size))
call('HDEL', download_key(id), 'error', 'suspect', 'token', 'gone', 'offline_since')
set_done(id, report.size)
count_transfer(id, report)
local server = report.source == 'geodes' and host_of(id) or report.source
if server then source_works(server, time) end
if server == 'geodes' then call('HSET', account_key(account), 'accepted', stamp(started)) end
end_probe(id, account, time, report.source or 'nowhere')
if report.source then transfer_succeeded(account, limits.concurrent, time) end
return answer_with_next(account, limits, time)
