-- For wrk: posts images as files of a form, in turn. Arguments: a file that lists their paths, and the mean pause of
-- a client between its requests in milliseconds (0: none); pauses are drawn so that requests come at random moments.
local requests, number, pause = {}, 0, 0

function init(args)
  pause = tonumber(args[2])
  math.randomseed(tonumber(args[3]))
  for path in io.lines(args[1]) do
    local file = assert(io.open(path, "rb"))
    local body = '--boundary\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
      .. "Content-Type: image/jpeg\r\n\r\n" .. file:read("*a") .. "\r\n--boundary--\r\n"
    file:close()
    local headers = { ["Content-Type"] = "multipart/form-data; boundary=boundary" }
    requests[#requests + 1] = wrk.format("POST", "/v1/predict", headers, body)
  end
end

function delay()
  return pause > 0 and math.floor(-pause * math.log(1 - math.random())) or 0
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failed": %d, "refused": %d, "p50": %.6f, "p99": %.6f}\n',
    summary.requests, summary.duration / 1e6, failed, summary.errors.status,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6
  ))
end
