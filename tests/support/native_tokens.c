/* Runs the tokenizer and the random stream of export/native/keras_seq.c alone, for tests/export/native/test_native.py. */
#define main program
#include "keras_seq.c"
#undef main

int main(int count, char **arguments) {
  static char text[1 << 20];
  if (count == 2) { /* a .tflite; stdin: texts, each followed by a zero; stdout: one line of token ids per text */
    Vocabulary vocabulary = read_vocabulary(read_file(arguments[1]), arguments[1]);
    int32_t *ids = allocate(sizeof text * sizeof *ids);
    for (size_t size = 0;;) {
      int next = getchar();
      if (next == EOF) break;
      text[size++] = (char)next;
      if (next) continue;
      int tokens = encode(&vocabulary, text, ids);
      for (int i = 0; i < tokens; i++) printf("%d ", ids[i]);
      fflush(stdout); /* what was read before a text that is refused */
      putchar('\n');
      size = 0;
    }
    return 0;
  }
  long long seed; /* stdin: pairs of a seed and a position; stdout: one line per pair with the word and the uniform number */
  unsigned position;
  while (scanf("%lld %u", &seed, &position) == 2) printf("%08x %.9g\n", threefry((uint64_t)seed, position), uniform((uint64_t)seed, position));
  return 0;
}
