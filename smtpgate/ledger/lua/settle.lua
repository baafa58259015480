-- Closes a reservation, gives recipients that were not accepted back, reports thresholds.
--
-- KEYS: the reservation, then the subjects (none when there is nothing to give back or report).
-- ARGV: the recipients to give back, 1 to report thresholds, the lease in milliseconds, 1 when
-- the reservation may still come, or come again, those that are given back to the quota alone;
-- then quota and rate of each subject.
--
-- Answers whose threshold is reported, its per cent and the sum, one after another. A reservation
-- that is not open, or whose lease has ended, is left as it is.

local now, back, reports = now_us(), tonumber(ARGV[1]), ARGV[2] == "1"
local lease_ms, may_come, only_quota = tonumber(ARGV[3]), ARGV[4] == "1", tonumber(ARGV[5])
local UNDONE = "undone"

local row = redis.call("GET", KEYS[1])
if may_come then
    redis.call("SET", KEYS[1], UNDONE, "PX", text(lease_ms + 60000))
elseif row and row ~= UNDONE then
    redis.call("DEL", KEYS[1])
end
if not row or row == UNDONE then
    return {}
end

local numbers = {}
for number in string.gmatch(row, "%d+") do
    numbers[#numbers + 1] = tonumber(number)
end
if now - numbers[1] > lease_ms * 1000 then
    return {}
end

local answer = {}
for i = 1, #KEYS - 1 do
    local usage = load(KEYS[i + 1], now)
    local quota, rate = tonumber(ARGV[4 + 2 * i]), tonumber(ARGV[5 + 2 * i])
    if usage.is_known then
        if back > 0 then
            give_back(usage, numbers[i + 2], back, only_quota)
        end
        if reports then
            see(usage, rate, now)
            for _, place in ipairs(report_crossings(usage, quota)) do
                answer[#answer + 1] = i - 1
                answer[#answer + 1] = THRESHOLDS[place]
                answer[#answer + 1] = usage.used
            end
        end
        save(usage, rate)
    end
end
return answer
