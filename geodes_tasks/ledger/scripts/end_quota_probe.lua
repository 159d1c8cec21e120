-- End the wait for a download that tries whether there is quota: it gets its file.
-- ARGV: id, token
-- Returns 1 when it was the one that tries.
local id, token = ARGV[1], ARGV[2]
local d = leased(id, token)
if not d or call('HGET', account_key(d.account), 'probe') ~= id then return 0 end
quota_is_back(d.account)
return 1
