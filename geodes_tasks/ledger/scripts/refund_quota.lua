-- Return to the window a request that never reached the portal.
-- ARGV: account, unique name of the request
-- Returns 1 when it was spent.
local account, request = ARGV[1], ARGV[2]
local was_spent = call('ZREM', account_key(account, ':spent'), request)
-- Another download may have found the window used up meanwhile. A refusal by the portal stays.
local a = load_account(account)
if was_spent == 1 and not a.probe then end_quota_pause(a) end
return was_spent
