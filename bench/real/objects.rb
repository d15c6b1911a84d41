# Ruby: objects, hashes, strings and arrays that come and go, and what they leave to the collector.
# objects.rb NODES
AMOUNT = ARGV[0].to_i
$seed = 1
def draw(bound)
  $seed = $seed * 48271 % 2147483647
  $seed % bound
end

Node = Struct.new(:key, :text, :children)

def tree(count)
  nodes = [Node.new(0, 'root', [])]
  while nodes.size < count
    node = Node.new(draw(1_000_000), 'n' * (20 + draw(90)), [])
    nodes[draw(nodes.size)].children << node
    nodes << node
  end
  nodes
end

sum = 0
6.times do |round|
  nodes = tree(AMOUNT)
  index = Hash.new { |hash, key| hash[key] = [] }
  nodes.each { |node| index["key-#{node.key % (AMOUNT / 3 + 1)}"] << node }
  text = +''
  index.sort.each do |name, group|
    text << name << '=' << group.map(&:text).join(',')[0, 400] << ';'
  end
  text.split(';').each_with_index do |part, i|
    changed = part.gsub(/n{3}/) { |match| match.upcase + i.to_s }
    sum = (sum * 31 + changed.size) % 1_000_000_007
  end
  numbers = (1..AMOUNT / 40).map { |i| 3**(i % 700) + i }
  sum = (sum + numbers.sum + round) % 1_000_000_007
end
puts sum
