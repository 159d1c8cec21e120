-- Record that a download waits after its attempt, and why; one that was cancelled ends.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: reason, delay, counted, error, entry, suspect, bytes, source, sources, collection
--     pause: why the whole account waits, for pause_seconds, or until a person resumes it
--     held: the only source that this download waits for now
--     complaint: throttled | broken | refused: what the portal's answer means for the account
-- Returns {'lost'} or {'ok', id, spec, id, spec, ...}: what to send messages for now.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local account, started, cancel = end_lease(id, token)
if not account then return { 'lost' } end
local time = now()
if cancel then
  -- The failed attempt has not removed its part files.
  revoke(id)
else
  move(id, 'RETRY', report.reason)
  if not report.counted then call('HINCRBY', download_key(id), 'attempts', -1) end
  if report.error then set_error(id, 'RETRY', report.error) end
  set_fields(id, 'suspect', report.suspect,
    'sources', report.held == 'geodes' and host_of(id) or report.held)
  if report.entry then add_to_history(id, cjson.decode(report.entry)) end
  count_transfer(id, report)
  -- The own window may have room again by now: a request that never reached the portal came back.
  local has_room = report.pause == 'quota' and not report.complaint
    and quota_left(account, limits.quota_count, limits.quota_seconds, time) > 0
  if report.pause and not has_room then
    pause_account(account, report.pause, report.pause_seconds, time)
  end
  apply_complaint(account, report, limits.concurrent, started, time)
  if report.reason == 'offline' then
    wait_for_tape(id, report.delay, time)
  elseif report.delay > 0 then
    wait_until(id, time + report.delay)
  else
    make_ready(id, true)
  end
end
end_probe(id, account, time, false)
return answer_with_next(account, limits, time)
