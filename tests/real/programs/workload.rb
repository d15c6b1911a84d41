# Strings, hashes, big numbers, JSON, fibers, threads and a fork, with a sum of each result printed.
require 'digest'
require 'json'
require 'set'
require 'stringio'
require 'zlib'

SOURCE = Random.new(77)

def say(what, text)
  puts "#{what} #{text.bytesize} #{Digest::SHA256.hexdigest(text)}"
end

def word
  Array.new(SOURCE.rand(1..15)) { (97 + SOURCE.rand(26)).chr }.join
end

words = Array.new(40_000) { word }
counts = words.tally
say('counts', counts.sort_by { |key, value| [-value, key] }.join(','))
groups = words.group_by(&:length).transform_values { |list| list.uniq.sort.map(&:reverse) }
say('groups', groups.sort.to_s)
text = words.join(' ')
say('changed', text.gsub(/\b(\w)(\w*)(?=\s)/) { "#{$2}#{$1}ay" })
say('scan', text.scan(/(\w*([aeiou])\w*\2)/).flatten.join('|'))

data = (1..3000).map do |i|
  { 'id' => i, 'words' => words[i, i % 9], 'deep' => { 'x' => [i * 0.5] } }
end
packed = JSON.generate(data)
raise 'JSON' unless JSON.parse(packed) == data
say('json', JSON.pretty_generate(JSON.parse(packed)))
say('marshal', Marshal.dump(Marshal.load(Marshal.dump(data))))
raise 'zlib' unless Zlib::Inflate.inflate(Zlib::Deflate.deflate(packed)) == packed

say('numbers', (1..600).reduce(:*).to_s + (7**5000).to_s(36))
Record = Struct.new(:name, :size, :others)
records = words.each_slice(7).map do |name, *others|
  Record.new(name, others.sum(&:size), others.to_set)
end
say('records', records.sort_by { |record| [record.size, record.name] }.map(&:name).join(' '))

fibers = Array.new(400) { |i| Fiber.new { 5.times { |n| Fiber.yield words[i * 3 + n] * n } } }
say('fibers', Array.new(5) { fibers.map { |fiber| fiber.resume.to_s }.join }.join)

queue = Queue.new
1000.times { |i| queue << i }
queue.close
threads = Array.new(6) do
  Thread.new do
    found = {}
    while (i = queue.pop)
      found[i] = Digest::SHA256.hexdigest(words[i, 30].join * 20)
      GC.start if (i % 250).zero?
    end
    found
  end
end
say('threads', threads.map(&:value).reduce(:merge).sort.to_s)

reader, writer = IO.pipe
child = fork do
  reader.close
  writer.write(words.reverse.map(&:upcase).join(','))
  writer.close
end
writer.close
say('fork', reader.read)
Process.wait(child)
raise 'the child failed' unless $?.success?
GC.compact if GC.respond_to?(:compact)
say('end', words.sort.join)
