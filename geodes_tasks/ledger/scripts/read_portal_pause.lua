-- Return why an account asks nothing of the portal now; empty when it may ask.
-- ARGV: account
local account = ARGV[1]
return open_lists(load_account(account)).why.geodes or ''
