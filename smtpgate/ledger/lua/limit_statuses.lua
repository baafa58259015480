-- Reads how subjects stand, and changes nothing.
--
-- KEYS: the subjects. ARGV: quota and rate of each subject.
--
-- Answers for each subject its sum, the wait until its quota has room for one recipient, how many
-- messages to one recipient its rate lets pass at once, and the wait until it lets one pass. Waits
-- are in microseconds; -1 stands for no wait, for one without end, and for a rate without limit.

local now = now_us()

local function wait_until(moment)
    return moment and moment ~= NEVER and moment - now or -1
end

local answer = {}
for i, key in ipairs(KEYS) do
    local usage, quota, rate = load(key, now), tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    see(usage, rate, now)
    answer[#answer + 1] = usage.used
    answer[#answer + 1] = wait_until(room_at(usage, quota, 1))
    answer[#answer + 1] = usage.tokens and math.ceil(math.max(0, usage.tokens) / TOKEN) or -1
    answer[#answer + 1] = wait_until(lends_at(usage, rate))
end
return answer
