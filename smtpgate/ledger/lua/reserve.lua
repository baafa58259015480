-- Counts recipients for every subject, or for none.
--
-- KEYS: the reservation, then the subjects. ARGV: now in microseconds, the recipients, the lease
-- in milliseconds or 0 to look only (at the 24-hour quotas, and to count nothing); then quota and
-- rate of each subject.
--
-- Answers {1, may a threshold be told, then minute and sum of each subject}, or
-- {0, whose limit, 0 for the quota and 1 for the rate, the wait in microseconds or -1, the rest},
-- or {-1} when the reservation was undone before it came.
--
-- What is kept of the reservation: its moment, its recipients, the minute of each subject.

local now, recipients, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local takes, NEVER = lease_ms > 0, math.huge

if takes and redis.call("EXISTS", KEYS[1]) == 1 then
    return {-1}
end

local held, quotas, rates, back = {}, {}, {}, {}
local worst, refusal = now, nil

local function refuse(i, kind, moment, left)
    if moment > worst then
        worst, refusal = moment, {0, i - 1, kind, -1, left}
    end
end

for i = 1, #KEYS - 1 do
    local usage = load(KEYS[i + 1], now)
    local quota, rate = tonumber(ARGV[2 + 2 * i]), tonumber(ARGV[3 + 2 * i])
    held[i], quotas[i], rates[i], back[i] = usage, quota, rate, is_moved_back(usage, now)
    see(usage, rate, now)
    if quota ~= UNLIMITED and usage.used + recipients > quota then
        local never = recipients > quota
        local moment = never and NEVER or frees_at(usage, quota - recipients)
        refuse(i, 0, moment, math.max(0, quota - usage.used))
    end
    if takes and usage.tokens and usage.tokens <= 0 then
        local wait = rate == 0 and NEVER or
            math.ceil(math.min((2 - usage.tokens) / rate, VERY_LONG_US))
        refuse(i, 1, usage.as_of + wait, 0)
    end
end

if refusal then
    for i, usage in ipairs(held) do
        if takes and back[i] then
            save(usage, rates[i])
        end
    end
    if worst ~= NEVER then
        refusal[4] = worst - now
    end
    return refusal
end

local answer, row = {1, 0}, {text(now), text(recipients)}
for i, usage in ipairs(held) do
    if takes then
        count(usage, recipients)
        save(usage, rates[i])
    end
    if #reached(usage, quotas[i]) > 0 then
        answer[2] = 1
    end
    answer[#answer + 1], answer[#answer + 2] = usage.minute, usage.used
    row[#row + 1] = text(usage.minute)
end
if takes then
    redis.call("SET", KEYS[1], table.concat(row, " "), "PX", text(lease_ms + 60000))
end
return answer
