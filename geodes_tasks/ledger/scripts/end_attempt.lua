-- Record that an attempt ended without a file: the download waits, has failed or was cancelled.
-- ARGV: id, token, report (JSON), window, concurrent, quota count, quota seconds
--   report: error, entry, bytes, source, sources, collection, suspect; without an error and a reason it
--       was cancelled
--     dead, deaths: its worker is gone, as this number of its workers
--     reason, delay, counted: why and how long it waits, none when it has failed; an attempt counts
--     pause: why the whole account waits, for pause_seconds, or until a person resumes it
--     held: the source that this download waits for now; S3 may serve what waits for a redirect
--     complaint: throttled | broken | refused: what the portal's answer means for the account
-- Returns {'lost'} or {'ok', '1' when a release finds more to send messages for}.
local id, token, report, limits = ARGV[1], ARGV[2], cjson.decode(ARGV[3]), limits_from(4)
local d = end_lease(id, token, report.dead)
if not d then return { 'lost' } end
local a = load_account(d.account)
-- Enqueued again after its worker was told to stop, it begins anew.
if not (report.error or report.reason or d.cancel) then report.reason, report.delay = 'worker-stopped', 0 end
local is_cancelled = d.cancel and (report.reason or not report.error)
local values = { error = report.error, suspect = report.suspect, deaths = report.deaths,
  history = report.entry and not is_cancelled and longer_history(d, cjson.decode(report.entry)) or nil }
count_transfer(d, report, values)
if is_cancelled then
  revoke(d)
  -- An attempt that ended without an error has removed its part files: none are left for sweeping.
  if not (report.error or report.reason) then call('ZREM', P .. 'litter', d.id) end
elseif not report.reason then
  values.finished = now_text
  move(d, 'FAILURE', values)
  if report.dead then leave_litter(d) end
else
  local held = report.held == 'geodes' and host_of(d) or report.held
  if held and held ~= 'geodes' and by_portal(held) then
    held = known_sources(held .. (string.match(d.sources or '', '%+s3$') or ''))
  end
  values.reason, values.sources = report.reason, held
  values.attempts = number(d.attempts) - (report.counted and 0 or 1)
  move(d, 'RETRY', values)
  -- The own window may have room again by now: a request that never reached the portal came back.
  local has_room = report.pause == 'quota' and not report.complaint
    and quota_left(d.account, limits.quota_count, limits.quota_seconds) > 0
  if report.pause and not has_room then pause_account(a, report.pause, report.pause_seconds) end
  if report.complaint == 'throttled' then
    halve_concurrency(a, limits.concurrent, number(d.started))
  elseif report.complaint == 'refused' then
    -- After the pause one download at a time tries.
    set(a, { probe = 'due', probe_wait = report.probe_seconds })
  end
  if report.reason == 'offline' then
    wait_for_tape(d, report.delay)
  elseif report.delay > 0 then
    set(d, { due = stamp(now + report.delay) })
    call('ZADD', P .. 'due', d.due, d.id)
  else
    make_ready(d, true)
  end
end
end_probe(a, d)
return answer_with_room(a, limits)
