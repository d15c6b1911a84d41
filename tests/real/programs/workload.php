<?php
// php's extensions, which it opens as modules, each doing work of its own, with a sum of each
// result printed.

function say(string $what, string $text): void {
    printf("%s %d %s\n", $what, strlen($text), hash('sha256', $text));
}

function word(): string {
    $word = '';
    for ($i = mt_rand(1, 15); $i > 0; $i--) $word .= chr(mt_rand(97, 122));
    return $word;
}

mt_srand(77);
$words = [];
for ($i = 0; $i < 20000; $i++) $words[] = word();

// dom, simplexml, xmlreader, xmlwriter, xsl: libxml2 and libxslt.
$writer = new XMLWriter();
$writer->openMemory();
$writer->startDocument('1.0', 'UTF-8');
$writer->startElement('list');
foreach (array_chunk($words, 7) as $i => $chunk) {
    $writer->startElement('item');
    $writer->writeAttribute('id', (string)$i);
    foreach ($chunk as $word) $writer->writeElement('word', "$word & <é>");
    $writer->endElement();
}
$writer->endElement();
$xml = $writer->outputMemory();
say('xmlwriter', $xml);

$document = new DOMDocument();
$document->loadXML($xml);
$path = new DOMXPath($document);
foreach (iterator_to_array($path->query('//item[@id mod 3 = 0]')) as $node) {
    $copy = $node->cloneNode(true);
    $copy->setAttribute('copy', 'yes');
    $node->parentNode->insertBefore($copy, $node);
    if ($copy->childNodes->length > 2) $copy->removeChild($copy->childNodes->item(1));
}
say('dom', $document->saveXML());

$simple = simplexml_import_dom($document);
$joined = '';
foreach ($simple->item as $item) $joined .= $item['id'] . ':' . implode('+', (array)$item->word);
say('simplexml', $joined);

$reader = XMLReader::XML($xml);
$seen = '';
while ($reader->read()) {
    if ($reader->nodeType != XMLReader::ELEMENT) continue;
    $seen .= $reader->name . $reader->getAttribute('id');
}
$reader->close();
say('xmlreader', $seen);

$sheet = new DOMDocument();
$sheet->loadXML('<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
    <xsl:template match="/"><out><xsl:for-each select="//item"><xsl:sort select="word[1]"/>
    <i n="{count(word)}"><xsl:value-of select="word[1]"/></i></xsl:for-each></out></xsl:template>
    </xsl:stylesheet>');
$processor = new XSLTProcessor();
$processor->importStylesheet($sheet);
say('xsl', $processor->transformToXML($document));

libxml_use_internal_errors(true);
$broken = new DOMDocument();
$broken->loadHTML('<p>' . implode('<b></p><i>', array_slice($words, 0, 300)));
say('html', $broken->saveHTML() . count(libxml_get_errors()));

// mbstring, intl (ICU), iconv.
$text = 'Größe žluťoučký кот 漢字かな ' . implode(' ', array_slice($words, 0, 5000));
function mb_strrev(string $text): string {
    return implode('', array_reverse(mb_str_split($text)));
}
say('mbstring', mb_convert_case($text, MB_CASE_TITLE, 'UTF-8') . mb_strrev($text)
    . mb_convert_encoding($text, 'UTF-16LE', 'UTF-8')
    . mb_ereg_replace('([a-z])\1', '<\0>', $text));
say('iconv', iconv('UTF-8', 'UTF-32BE', $text));
$names = ['Äpfel', 'Zebra', 'apfel', 'österreich', 'Œuvre', 'ñandú'];
$names = array_merge($names, array_slice($words, 0, 2000));
$collator = new Collator('de_DE');
$collator->sort($names);
$number = new NumberFormatter('hi_IN', NumberFormatter::SPELLOUT);
$date = new IntlDateFormatter('ja_JP', IntlDateFormatter::FULL, IntlDateFormatter::FULL, 'UTC');
$break = IntlBreakIterator::createWordInstance('en_US');
$break->setText($text);
say('intl', implode(',', $names) . $number->format(123456789) . $date->format(1234567890)
    . implode(',', iterator_to_array($break)) . Normalizer::normalize($text, Normalizer::FORM_D)
    . transliterator_transliterate('Any-Latin; Latin-ASCII', $text)
    . MessageFormatter::formatMessage('en_US', '{0,plural,one{# day}other{# days}}', [3]));

// gd: libpng, libjpeg, libwebp, freetype behind one library.
$image = imagecreatetruecolor(320, 240);
for ($i = 0; $i < 400; $i++) {
    $color = imagecolorallocatealpha($image, mt_rand(0, 255), mt_rand(0, 255), mt_rand(0, 255), 40);
    imagefilledellipse($image, mt_rand(0, 320), mt_rand(0, 240), mt_rand(1, 50), 30, $color);
    imagestring($image, 2, mt_rand(0, 300), mt_rand(0, 230), $words[$i], $color);
}
$images = '';
foreach (['imagepng', 'imagegif', 'imagejpeg', 'imagewebp', 'imagebmp'] as $function) {
    ob_start();
    $function(imagerotate(imagescale($image, 200, 150), 30, 0));
    $bytes = ob_get_clean();
    $again = imagecreatefromstring($bytes);
    $images .= $bytes . imagesx($again) . imagecolorat($again, 100, 75);
}
say('gd', $images);

// curl, on a file; several at once.
$file = tempnam(sys_get_temp_dir(), 'php');
file_put_contents($file, $xml);
$multi = curl_multi_init();
$handles = [];
for ($i = 0; $i < 8; $i++) {
    $handles[$i] = curl_init("file://$file");
    curl_setopt($handles[$i], CURLOPT_RETURNTRANSFER, true);
    curl_setopt($handles[$i], CURLOPT_RANGE, $i * 100 . '-');
    curl_multi_add_handle($multi, $handles[$i]);
}
do {
    curl_multi_exec($multi, $running);
} while ($running > 0);
$fetched = '';
foreach ($handles as $handle) {
    $fetched .= hash('sha256', curl_multi_getcontent($handle));
    curl_multi_remove_handle($multi, $handle);
}
say('curl', $fetched . curl_escape($handles[0], $text));
unlink($file);

// sqlite3 and PDO.
$database = new SQLite3(':memory:');
$database->exec('CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT); CREATE INDEX i ON t(word)');
$database->createFunction('turned', 'strrev', 1);
$database->createAggregate('longest', fn($best, $row, $value) =>
    strlen($value) > strlen($best ?? '') ? $value : $best, fn($best) => $best);
$insert = $database->prepare('INSERT INTO t(word) VALUES(?)');
$database->exec('BEGIN');
foreach ($words as $word) {
    $insert->bindValue(1, $word);
    $insert->execute();
    $insert->reset();
}
$database->exec('COMMIT');
$rows = '';
$result = $database->query('SELECT turned(word), count(*), longest(word) FROM t
    GROUP BY substr(word, 1, 2) ORDER BY 1');
while ($row = $result->fetchArray(SQLITE3_NUM)) $rows .= implode('|', $row) . "\n";
say('sqlite3', $rows);
$database->close();

$pdo = new PDO('sqlite::memory:');
$pdo->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$pdo->exec('CREATE TABLE t(a, b)');
$insert = $pdo->prepare('INSERT INTO t VALUES(:a, :b)');
foreach (array_chunk($words, 2) as [$a, $b]) $insert->execute(['a' => $a, 'b' => $b]);
$refused = 0;
for ($i = 0; $i < 200; $i++) {
    try {
        $pdo->query("SELECT $i FROM none");
    } catch (PDOException $exception) {
        $refused++;
    }
}
say('pdo', json_encode($pdo->query('SELECT a, group_concat(b) FROM t GROUP BY length(a), a')
    ->fetchAll(PDO::FETCH_KEY_PAIR)) . $refused);

// Those that come with php itself.
$key = sodium_crypto_generichash('key', '', 32);
say('sodium', sodium_crypto_secretbox($text, substr(hash('sha512', 'n', true), 0, 24), $key));
say('tokenizer', serialize(array_map(fn($t) => is_array($t) ? $t[1] : $t, token_get_all(
    file_get_contents(__FILE__)))));
$phar = new PharData(sys_get_temp_dir() . '/words.tar');
foreach (array_slice($words, 0, 50) as $i => $word) $phar["$i.txt"] = str_repeat($word, 200);
say('phar', implode(',', array_map(fn($i) => $phar["$i.txt"]->getContent(), range(0, 49))));
say('fileinfo', (new finfo(FILEINFO_MIME))->buffer($xml) . (new finfo())->buffer($images));
$wanted = ['curl', 'dom', 'gd', 'iconv', 'intl', 'mbstring', 'PDO', 'pdo_sqlite', 'Phar',
           'SimpleXML', 'sqlite3', 'tokenizer', 'xml', 'xmlreader', 'xmlwriter', 'xsl', 'Zend OPcache'];
foreach ($wanted as $name) {
    if (!extension_loaded($name)) exit("no $name\n");
}
say('opcache', serialize(opcache_get_status(false)['opcache_enabled']));
