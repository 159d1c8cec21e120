-- Record how many requests the portal says are left: shown, and the end of a pause that the portal
-- began. One download tries then, for the number may be wrong.
-- ARGV: account, left (-1: the portal does not say, -2: there is no quota), when it was asked
-- Returns 1 when a pause ended.
local account, left, asked_at = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local a = load_account(account)
set(a, { portal_left = left, portal_at = asked_at })
if left == 0 or left == -1 or not a.probe or a.paused ~= 'quota' then return 0 end
end_quota_pause(a)
return 1
