-- The holder of a lease says how its attempt ended, and the place goes to the next download.
-- ARGV: window, concurrent, quota count, quota seconds, id, token, state, JSON of fields:
--   SUCCESS: {outcome, verified, bytes, source, sources, collection, proof, size, checksum}
--   RETRY:   {reason, delay, counted, error, entry, suspect, bytes, source, sources, collection,
--             pause, pause_seconds, probe_seconds, complaint, held}
--            pause: why the whole account waits; without pause_seconds until somebody resumes it
--            held: the only source that this download waits for now
--            complaint: throttled | broken | refused: what the portal's answer says of the account
--   FAILURE: {error, entry, bytes, source, sources, collection}
--   REVOKED: {}
-- Returns {'lost'} or {'ok', id, spec, id, spec, ...}: what to send messages for now.
local id, token, state = ARGV[5], ARGV[6], ARGV[7]
if not holds(id, token) then return { 'lost' } end
local said, time = cjson.decode(ARGV[8]), now()
local key, account = download(id), field(id, 'account')
local function transferred()
  local bytes = string.format('%.0f', said.bytes or 0)
  redis.call('HINCRBY', key, 'bytes', bytes)
  for source, part in pairs(said.sources or { [said.source or ''] = said.bytes or 0 }) do
    part = string.format('%.0f', part)
    if part ~= '0' then
      redis.call('HINCRBY', key, 'bytes:' .. source, part)
      total('bytes:' .. source .. ':' .. said.collection, part)
    end
  end
end

local began, most = number(field(id, 'started')), tonumber(ARGV[2])
local is_swept = state == 'REVOKED'
drop_lease(id)
if state == 'RETRY' and field(id, 'cancel') then state = 'REVOKED' end
if state == 'SUCCESS' then
  move(id, 'SUCCESS', nil, said.outcome)
  redis.call('HSET', key, 'verified', said.verified and '1' or '0', 'proof', said.proof,
    'finished', stamp(time))
  if said.checksum then redis.call('HSET', key, 'checksum', said.checksum) end
  if said.source then redis.call('HSET', key, 'source', said.source) end
  if tonumber(field(id, 'size') or '') ~= said.size then
    count(id, 'bytes_total', said.size - number(field(id, 'size')))
    redis.call('HSET', key, 'size', string.format('%.0f', said.size))
  end
  redis.call('HDEL', key, 'error', 'suspect', 'token', 'gone', 'offline_since')
  set_done(id, said.size)
  transferred()
  if said.source == 'geodes' then redis.call('HSET', account_key(account), 'accepted', began) end
elseif state == 'RETRY' then
  move(id, 'RETRY', said.reason)
  if not said.counted then redis.call('HINCRBY', key, 'attempts', -1) end
  if said.error then redis.call('HSET', key, 'error', said.error) end
  if said.entry then remember(id, cjson.decode(said.entry)) end
  if said.suspect then redis.call('HSET', key, 'suspect', said.suspect) end
  transferred()
  if said.held then redis.call('HSET', key, 'sources', said.held) end
  if said.pause then pause_account(account, said.pause, said.pause_seconds, time) end
  heed_complaint(account, said, most, began, time)
  if said.reason == 'offline' then
    park(id, said.delay, time)
  elseif said.delay > 0 then
    redis.call('ZADD', P .. 'due', stamp(time + said.delay), id)
    redis.call('HSET', key, 'due', stamp(time + said.delay))
  else
    make_ready(id, true)
  end
elseif state == 'FAILURE' then
  move(id, 'FAILURE')
  redis.call('HSET', key, 'error', said.error, 'finished', stamp(time))
  if said.entry then remember(id, cjson.decode(said.entry)) end
  transferred()
else
  move(id, 'REVOKED')
  redis.call('HSET', key, 'finished', stamp(time))
  redis.call('HDEL', key, 'cancel')
  -- A failed attempt that was cancelled meanwhile has not removed its part files.
  if is_swept then set_done(id, 0) else leave_litter(id) end
end
probe_ended(id, account, time, state == 'SUCCESS' and (said.source or 'nowhere'))
if state == 'SUCCESS' and said.source then went_well(account, most, time) end
local answer = { 'ok' }
for _, value in ipairs(release(account, limits_from(1), time)) do answer[#answer + 1] = value end
return answer
