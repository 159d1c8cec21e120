-- Have an account take no work.
-- ARGV: account, why, seconds ('': until it is resumed by hand), seconds between two tries whether
--   there is quota ('': the portal did not refuse for its quota)
-- Returns 1 when it did not wait for a person before.
local before = redis.call('HGET', account_key(ARGV[1]), 'paused_until') == 'resume'
if before then return 0 end
redis.call('SADD', P .. 'accounts', ARGV[1])
pause_account(ARGV[1], ARGV[2], tonumber(ARGV[3]), now())
if ARGV[4] ~= '' then refused(ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), now()) end
return 1
