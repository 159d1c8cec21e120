-- Renew the lease of a running attempt, and record its progress.
-- ARGV: id, token, lease seconds, bytes on disk (-1: unknown), source or ''
-- Returns ok | lost | cancelled
local id, token, lease_seconds, bytes, source = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- Each transfer renews each second: as few commands and library functions as can be.
local key = download_key(id)
local state, current, cancel, account, done, batches, known_source = unpack(call('HMGET', key,
  'state', 'token', 'cancel', 'account', 'done', 'batches', 'source'))
if state ~= 'STARTED' or current ~= token then return 'lost' end
if cancel then return 'cancelled' end
local time = call('TIME')
local lease_end = string.format('%.3f', time[1] + time[2] / 1000000 + lease_seconds)
call('ZADD', account_key(account, ':leases'), lease_end, id)
local before = number(done)
if bytes >= 0 and bytes ~= before then
  local progress = string.format('%.0f', bytes - before)
  call('HSET', key, 'done', bytes)
  call('HINCRBY', P .. 'totals', 'bytes_done', progress)
  for name in string.gmatch(batches or '', '%S+') do
    local batch = batch_key(name)
    if call('EXISTS', batch) == 1 then call('HINCRBY', batch, 'bytes_done', progress) end
  end
end
if source ~= '' and source ~= known_source then call('HSET', key, 'source', source) end
return 'ok'
