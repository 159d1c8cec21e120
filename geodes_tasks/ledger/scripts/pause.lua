-- Have an account take no work. ARGV: account, why, seconds ('': until somebody resumes it)
-- Returns 1 when it took work before.
local before = is_paused(ARGV[1], now())
pause_account(ARGV[1], ARGV[2], tonumber(ARGV[3]), now())
return before and 0 or 1
