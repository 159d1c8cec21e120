-- Return why an account asks nothing of the portal now; empty when it may ask. ARGV: account
local open = open_lists(ARGV[1], now())
return open.why
