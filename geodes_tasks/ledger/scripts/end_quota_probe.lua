-- End the wait for a download that tries whether there is quota: it gets its file.
-- ARGV: id, token
-- Returns 1 when it was the one that tries.
local id, token = ARGV[1], ARGV[2]
local d = leased(id, token)
local a = d and load_account(d.account)
if not d or a.probe ~= id then return 0 end
quota_is_back(a)
return 1
