-- Have an account ask nothing of the portal, or of any source when a person pauses it.
-- ARGV: account, why, seconds ('': until it is resumed), seconds between two tries whether there is
--   quota ('': the portal did not refuse for its quota), '1' for by hand
-- Returns 1 when that is new.
local account, why, seconds, probe_seconds, by_hand =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local key = account_key(account)
local until_time, was_by_hand = unpack(call('HMGET', key, 'paused_until', 'by_hand'))
call('SADD', P .. 'accounts', account)
if by_hand and not (is_paused(until_time) and was_by_hand) then
  call('HSET', key, 'by_hand', '1')
elseif by_hand or until_time == 'resume' then
  return 0
end
pause_account(account, why, seconds)
if probe_seconds then quota_refused(account, seconds, probe_seconds) end
return 1
