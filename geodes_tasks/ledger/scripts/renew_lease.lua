-- Renew the lease of a running attempt, and record its progress.
-- ARGV: id, token, lease seconds, bytes on disk (-1: unknown), source or '',
--   bytes that this attempt received, its bytes a second, collection
-- Returns ok | lost | cancelled
local id, token, lease_seconds, bytes, source = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local received, speed, collection = ARGV[6], ARGV[7], ARGV[8]
-- Each transfer renews each second: as few commands and library functions as can be.
local key = download_key(id)
local state, current, cancel, account, done, batches, known_source, counted = unpack(call('HMGET', key,
  'state', 'token', 'cancel', 'account', 'done', 'batches', 'source', 'counted'))
if state ~= 'STARTED' or current ~= token then return 'lost' end
if cancel then return 'cancelled' end
local time = call('TIME')
local seconds = time[1] + time[2] / 1000000
call('ZADD', account_key(account, ':leases'), string.format('%.3f', seconds + lease_seconds), id)
local grown, came = bytes - number(done), received - number(counted)
if bytes ~= '-1' and (grown ~= 0 or came > 0) then
  call('HSET', key, 'done', bytes, 'counted', received, 'speed', speed)
  count_progress(batches, grown, came, source, collection, seconds)
end
if source ~= '' and source ~= known_source then call('HSET', key, 'source', source) end
return 'ok'
