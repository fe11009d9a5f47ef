"""taskbits in a notebook. It needs a model in the folder M: taskbits save-model --model lab:pretrained M"""

import transformers

import taskbits

lm = transformers.AutoModelForCausalLM.from_pretrained("M")
tokenizer = transformers.AutoTokenizer.from_pretrained("M")


def words(output, row):  # a metric of one's own: the share of the answer's words that are there
    return len(set(output.split()) & set(row["answer"].split())) / len(set(row["answer"].split()))


rows = taskbits.load_task("lab:translation").splits  # lists of dicts, as yours would be
rows = {"train": rows["train"], "validation": rows["validation"][:40], "test": rows["test"][:60]}
asked = {"prompt": "User: {question}\nAssistant:", "target": " {answer}", "stop": ["\n"], "max_new_tokens": 48}
task = taskbits.load_task({**rows, **asked, "metric": words})
study = taskbits.measure((lm, tokenizer), task, out="velan", budget="20s", methods=["zero-shot", "few-shot"])
print("C(T_0.1 | M) is at most", study.complexity(0.1).bytes, "bytes")
with study.program(study.frontier()[-1]).applied(taskbits.load_model((lm, tokenizer))) as adapted:
    written = adapted.lm.generate(**adapted.inputs(rows["test"][0]), max_new_tokens=12)
    print(tokenizer.decode(written[0]))
