"""The table of benchmarks, one row each."""

from __future__ import annotations

from benchmarks import memory, predict, predict_backbone, predict_stream, pretrained, scan, serve, start, train
from benchmarks.benchmark import Benchmark, Way

BENCHMARKS = (
    Benchmark(
        name="train",
        title="training epochs of cats-dogs-64 (two convolutions of 64, 128x128, batch 15, augmented), steady state",
        unit="images/s",
        more_is_better=True,
        ours=Way("tellapart", train.ours),
        peers=(
            Way("ImageDataGenerator, float32 (the tutorials' way)", train.tutorial, 2.3),
            Way("Keras' best practice, Random* layers in map()", train.layers_in_map, 2.1),
            Way("Keras' best practice, Random* layers in the model", train.layers_in_model, 2.1),
            Way("the same in map(), mixed_bfloat16", train.layers_in_map_bfloat16),
            Way("the same in the model, mixed_bfloat16", train.layers_in_model_bfloat16),
            Way("the limit: our step on one batch in memory", train.limit, 0.9),
        ),
    ),
    Benchmark(
        name="pretrained",
        title="from the shell to an evaluated classifier on a pretrained backbone, nothing prepared",
        unit="s",
        bound=25.0,
        ours=Way("tellapart train DATA", pretrained.first_run),
        peers=(
            Way(
                "the tutorials' way: ImageDataGenerator, 20 epochs through the frozen backbone", pretrained.tutorial, 15
            ),
            Way("Keras' best practice: cached images, 10 epochs through the backbone", pretrained.best_practice, 8),
            Way("the same, mixed_bfloat16", pretrained.best_practice_bfloat16),
        ),
    ),
    Benchmark(
        name="another-head",
        title="the same images again with a head of 128 units, from the shell",
        unit="s",
        bound=10.0,
        ours=Way("tellapart train DATA --set model.dense=[128]", pretrained.another_head),
        peers=(Way("the first run, nothing prepared", pretrained.first_run),),
        prepare=pretrained.fill_cache,
    ),
    Benchmark(
        name="scan",
        title="first start: every file checked, decoded to 128x128, cached and delivered in batches",
        unit="s",
        ours=Way("tellapart, no cache yet", scan.first_start),
        peers=(Way("image_dataset_from_directory, iterated once", scan.image_dataset, 1.5),),
    ),
    Benchmark(
        name="second-start",
        title="second start: unchanged files, every image delivered in batches",
        unit="s",
        ours=Way("tellapart, cache filled", scan.second_start),
        peers=(Way("image_dataset_from_directory, iterated once", scan.image_dataset, 20),),
        prepare=scan.fill_cache,
    ),
    Benchmark(
        name="predict",
        title="prediction of a folder, from files to probabilities, same small network, without process start",
        unit="ms an image",
        ours=Way("tellapart Predictor", predict.ours),
        peers=(
            Way("load_img and model.predict, one by one (the tutorials' way)", predict.one_by_one, 20),
            Way("load_img and model.predict in batches of 32", predict.in_batches, 3),
            Way("image_dataset_from_directory and model.predict, batches of 32", predict.image_dataset),
        ),
        prepare=predict.train_a_run,
    ),
    Benchmark(
        name="predict-backbone",
        title="the same on the built-in backbone at 224x224",
        unit="images/s",
        more_is_better=True,
        ours=Way("tellapart Predictor", predict_backbone.ours),
        peers=(
            Way("load_img and model.predict, one by one (the tutorials' way)", predict_backbone.one_by_one, 20),
            Way("load_img and model.predict in batches of 32", predict_backbone.in_batches, 3),
            Way("image_dataset_from_directory and model.predict, batches of 32", predict_backbone.image_dataset, 3),
            Way("PyTorch eager, DataLoader, batches of 32", predict_backbone.torch_eager, 3, predict_backbone.no_torch),
            Way("bare ONNX Runtime, fed from memory in batches of 32", predict_backbone.bare_batches, 0.8),
            Way("the limit: each core its own few images, from memory", predict_backbone.bare_groups),
            Way("tellapart Predictor on the file in int8", predict_backbone.ours_int8),
            Way(
                "OpenVINO in bfloat16, fed from memory in batches of 32",
                predict_backbone.openvino_bfloat16,
                missing=predict_backbone.no_openvino,
            ),
        ),
        prepare=predict_backbone.prepare,
    ),
    Benchmark(
        name="predict-stream",
        title="highest resident memory of a stream of paths on standard input, broken and missing ones among them",
        unit="MB",
        bound=400,
        ours=Way("tellapart predict RUN -, 200,000 paths", predict_stream.whole),
        peers=(Way("the first tenth of them", predict_stream.tenth, 0.95),),
        prepare=predict_stream.prepare,
    ),
    Benchmark(
        name="predict-one",
        title="prediction of one image from the shell, process start included",
        unit="s",
        bound=1.0,
        ours=Way("tellapart predict RUN one.jpg", predict.from_the_shell),
        peers=(Way("a script: load_model, load_img, model.predict", predict.script_from_the_shell),),
        prepare=predict.train_a_run,
    ),
    Benchmark(
        name="serve",
        title="an HTTP server under 32 clients, same small network, generator and server on the same cores",
        unit="images/s",
        more_is_better=True,
        ours=Way("tellapart serve", serve.throughput),
        peers=(
            Way("the bare engine: our Predictor over the same bytes, no HTTP", serve.bare_engine, 0.65),
            Way("FastAPI and model.predict (the tutorials' way)", serve.plain_throughput, 5),
        ),
        prepare=predict.train_a_run,
    ),
    Benchmark(
        name="serve-waiting",
        title="p99 at half of what the server can do at most, against one image sent alone",
        unit="times",
        bound=5.0,
        ours=Way("tellapart serve", serve.waiting),
        peers=(Way("FastAPI and model.predict, at half of its own most", serve.plain_waiting),),
        prepare=predict.train_a_run,
    ),
    Benchmark(
        name="start",
        title="tellapart --help from the shell",
        unit="s",
        bound=0.2,
        ours=Way("tellapart --help", start.ours),
        peers=(Way("python -c pass (the least that any command takes)", start.bare),),
    ),
    Benchmark(
        name="memory",
        title="highest resident memory of training cats-dogs-64 on the whole folder",
        unit="MB",
        bound=1500,
        ours=Way("tellapart train DATA --recipe cats-dogs-64", memory.ours),
        peers=(
            Way("ImageDataGenerator, float32 (the tutorials' way)", memory.tutorial),
            Way("Keras' best practice, Random* layers in map()", memory.layers_in_map),
        ),
    ),
)
