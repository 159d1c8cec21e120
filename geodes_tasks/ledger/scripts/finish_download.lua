-- Record the proven file of an attempt.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: outcome, verified, bytes, source, sources, collection, proof, size, checksum,
--     spec if it changed, members (JSON)
-- Returns {'lost'} or {'ok', '1' when a release finds more to send messages for}.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local d = end_lease(id, token)
if not d then return { 'lost' } end
local values = { outcome = report.outcome, verified = report.verified, proof = report.proof,
  finished = now_text, checksum = report.checksum, source = report.source, done = report.size,
  size = report.size, spec = report.spec, members = report.members }
count_transfer(d, report, values)
count_in_batches(d, 'bytes_total', report.size - number(d.size))
move(d, 'SUCCESS', values)
call('HDEL', d.key, 'token', 'error', 'suspect', 'gone', 'offline_since')
local server, a = report.source == 'geodes' and host_of(d) or report.source, load_account(d.account)
if server then
  source_works(server)
  transfer_succeeded(a, limits.concurrent)
end
if server and by_portal(server) then
  if server ~= 'geodes' then source_works('geodes') end
  call('HSET', a.key, 'accepted', d.started)
end
end_probe(a, d, report.source or 'nowhere')
return answer_with_room(a, limits)
