-- Renew the leases of running attempts of one worker, and record their progress.
-- ARGV: lease seconds, then for each attempt: id, token, bytes on disk (-1: unknown), source or '',
--   bytes that this attempt received, collection
-- Returns ok | lost | cancelled for each
local lease_seconds, answers = ARGV[1], {}

-- Each transfer renews each second: as few commands as can be.
local function renew(id, token, bytes, source, received, collection)
  local key = download_key(id)
  local state, current, cancel, account, done, batches, known_source, counted, speed = unpack(call('HMGET',
    key, 'state', 'token', 'cancel', 'account', 'done', 'batches', 'source', 'counted', 'speed'))
  if state ~= 'STARTED' or current ~= token then return 'lost' end
  if cancel then return 'cancelled' end
  call('ZADD', account_key(account, ':leases'), stamp(now + lease_seconds), id)
  local grown, came = bytes - number(done), received - number(counted)
  if bytes ~= '-1' and (grown ~= 0 or came > 0) then
    call('HSET', key, 'done', bytes, 'counted', received, 'speed', next_speed(speed, came))
    count_progress(names_in(batches), grown, came, source, collection)
  end
  if source ~= '' and source ~= known_source then call('HSET', key, 'source', source) end
  return 'ok'
end

for first = 2, #ARGV, 6 do answers[#answers + 1] = renew(unpack(ARGV, first, first + 5)) end
return answers
