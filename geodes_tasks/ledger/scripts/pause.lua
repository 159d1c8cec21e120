-- Have an account take no work. ARGV: account, why, seconds ('': until somebody resumes it)
-- Returns 1 when it did not wait for a person before.
local before = redis.call('HGET', account_key(ARGV[1]), 'paused_until') == 'resume'
if before then return 0 end
redis.call('SADD', P .. 'accounts', ARGV[1])
pause_account(ARGV[1], ARGV[2], tonumber(ARGV[3]), now())
return 1
