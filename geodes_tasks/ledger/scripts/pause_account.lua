-- Have an account ask nothing of the portal, or of any source when a person pauses it.
-- ARGV: account, why, seconds ('': until it is resumed), seconds between two tries whether there is
--   quota ('': the portal did not refuse for its quota), '1' for by hand
-- Returns 1 when that is new.
local account, why, seconds, probe_seconds, by_hand =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local a = load_account(account)
call('SADD', P .. 'accounts', account)
if by_hand and not (is_paused(a) and a.by_hand) then
  set(a, { by_hand = 1 })
elseif by_hand or a.paused_until == 'resume' then
  return 0
end
pause_account(a, why, seconds)
-- After a pause for the quota one download at a time tries.
if probe_seconds then set(a, { probe = 'due', probe_wait = probe_seconds }) end
return 1
