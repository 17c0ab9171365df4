import json
import sys
import time

if "--slow" in sys.argv:
    time.sleep(1)
    print("hello", flush=True)
for line in sys.stdin:
    sample = json.loads(line)
    text = sample["completion"]
    if text == "sleep":
        time.sleep(1000)
    elif text == "exit":
        sys.exit(7)
    elif text == "bytes":
        sys.stdout.buffer.write(b"\xff\n")
    elif text == "words":
        print("oh no")
    elif text == "null":
        print("null")
    elif text == "object":
        print(json.dumps({"reward": 0.5, "reason": "because", "answer": sample["answer"]}))
    else:
        print(len(text) + len(sample["fields"]))
    sys.stdout.flush()
