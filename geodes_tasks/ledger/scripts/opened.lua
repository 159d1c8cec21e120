-- A download gets its file: the answer that others wait for, and there is quota if it tried that.
-- ARGV: id, token
local id = ARGV[1]
if not holds(id, ARGV[2]) then return 0 end
local account = field(id, 'account')
redis.call('HDEL', download(id), 'asking')
if redis.call('HGET', account_key(account), 'probe') == id then quota_is_back(account) end
return 1
