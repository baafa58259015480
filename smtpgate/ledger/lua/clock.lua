-- The time that limits go by: the server's own, in microseconds. All hosts that share the server
-- share its clock, whatever their own show. Every script begins with this.

local function now_us()
    local time = redis.call("TIME")
    return time[1] * 1000000 + time[2]
end
