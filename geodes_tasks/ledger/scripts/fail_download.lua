-- Record that a download ended without a file: with an error, or cancelled.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: error, entry, bytes, source, sources, collection, dead, deaths;
--     without an error it was cancelled, and the attempt has removed its part files
-- Returns {'lost'} or {'ok', '1' when a release finds more to send messages for}.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local d = end_lease(id, token, report.dead)
if not d then return { 'lost' } end
if report.error then
  local values = { error = report.error, finished = now_text, deaths = report.deaths,
    history = report.entry and longer_history(d, cjson.decode(report.entry)) }
  count_transfer(d, report, values)
  move(d, 'FAILURE', values)
  if report.dead then leave_litter(d) end
else
  move(d, 'REVOKED', { finished = now_text })
  clear(d, 'cancel')
  set_done(d, 0)
end
end_probe(d)
return answer_with_room(d, limits)
