-- Have an account ask nothing of the portal, or of any source when a person pauses it.
-- ARGV: account, why, seconds ('': until it is resumed), seconds between two tries whether there is
--   quota ('': the portal did not refuse for its quota), '1' for by hand
-- Returns 1 when that is new.
local account, why, seconds, probe, by_hand = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local time, key = now(), account_key(account)
redis.call('SADD', P .. 'accounts', account)
if by_hand == '1' then
  if is_paused(account, time) and redis.call('HEXISTS', key, 'by_hand') == 1 then return 0 end
  redis.call('HSET', key, 'by_hand', '1')
elseif redis.call('HGET', key, 'paused_until') == 'resume' then
  return 0
end
pause_account(account, why, seconds, time)
if probe ~= '' then refused(account, seconds, tonumber(probe), time) end
return 1
