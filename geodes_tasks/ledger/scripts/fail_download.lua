-- Record that a download ended without a file: with an error, or cancelled.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: error, entry, bytes, source, sources, collection; without an error it was cancelled,
--     and the attempt has removed its part files
-- Returns {'lost'} or {'ok', id, spec, id, spec, ...}: what to send messages for now.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local account = end_lease(id, token)
if not account then return { 'lost' } end
local time = now()
move(id, report.error and 'FAILURE' or 'REVOKED')
set_fields(id, 'finished', stamp(time))
if report.error then
  set_error(id, 'FAILURE', report.error)
  if report.entry then add_to_history(id, cjson.decode(report.entry)) end
  count_transfer(id, report)
else
  call('HDEL', download_key(id), 'cancel')
  set_done(id, 0)
end
end_probe(id, account, time, false)
return answer_with_next(account, limits, time)
