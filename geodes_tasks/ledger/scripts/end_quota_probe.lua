-- End the wait for a download that tries whether there is quota: it gets its file.
-- ARGV: id, token
-- Returns 1 when it was the one that tries.
local id, token = ARGV[1], ARGV[2]
local account = field(id, 'account')
if not has_lease(id, token) or call('HGET', account_key(account), 'probe') ~= id then return 0 end
quota_is_back(account)
return 1
