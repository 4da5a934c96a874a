"""Recurrent models of several inputs and outputs, encoders and convolutions, as tutorials and papers build them."""

import keras
import numpy as np
from brought_models import SIZE
from keras import layers

import keras_seq as ks

UNITS = 24


def gru(units=UNITS, **options):
    return ks.GRU(units, return_sequences=True, **options)


def chain(shape, *parts, dtype="float32"):
    """A model of `parts`, one after the other."""
    x = given = keras.Input(shape, dtype=dtype)
    for part in parts:
        x = part(x)
    return keras.Model(given, x)


def noise_suppressor():
    """RNNoise (Valin 2018, arXiv 1709.08243), smaller: gains of 22 bands and voice activity from 42 features."""
    features = keras.Input((None, 42), name="features")
    dense = layers.Dense(12, activation="tanh")(features)
    voice = layers.GRU(12, activation="tanh", return_sequences=True)(dense)
    activity = layers.Dense(1, activation="sigmoid", name="voice_activity")(voice)
    noise = layers.GRU(16, activation="relu", return_sequences=True)(layers.Concatenate()([dense, voice, features]))
    denoise = layers.GRU(20, return_sequences=True)(layers.Concatenate()([voice, noise, features]))
    return keras.Model(features, [layers.Dense(22, activation="sigmoid", name="gains")(denoise), activity])


def music():
    """TensorFlow's tutorial "Generate music with an RNN": the next note after 25 notes of three numbers."""
    notes = keras.Input((25, 3))
    x = layers.LSTM(32)(notes)
    return keras.Model(
        notes,
        {
            "pitch": layers.Dense(128, name="pitch")(x),
            "step": layers.Dense(1, name="step")(x),
            "duration": layers.Dense(1, name="duration")(x),
        },
    )


def logits_and_states():
    tokens = keras.Input((None,), dtype="int32")
    x, hidden, cell = layers.LSTM(UNITS, return_sequences=True, return_state=True)(
        layers.Embedding(SIZE, UNITS)(tokens)
    )
    return keras.Model(tokens, [layers.Dense(SIZE, name="logits")(x), hidden, cell])


def tokens_and_frames():
    tokens, frames = keras.Input((None,), dtype="int32", name="token"), keras.Input((None, 3), name="frame")
    x = layers.Concatenate()([layers.Embedding(SIZE, UNITS)(tokens), frames])
    return keras.Model([tokens, frames], layers.Dense(SIZE)(gru()(x)))


def frames_and_mask():
    """Keras's example "Video classification with a CNN-RNN architecture": features of the frames, and a mask."""
    frames, mask = keras.Input((20, 16), name="frame_features"), keras.Input((20,), dtype="bool", name="mask")
    x = layers.GRU(32, return_sequences=True)(frames, mask=mask)
    x = layers.Dropout(0.4)(layers.GRU(32)(x))
    return keras.Model([frames, mask], layers.Dense(5, activation="softmax")(layers.Dense(8, activation="relu")(x)))


def speaker_as_initial_state():
    frames, speaker = keras.Input((None, 3)), keras.Input((5,), name="speaker")
    x = gru()(frames, initial_state=layers.Dense(UNITS, activation="tanh")(speaker))
    return keras.Model([frames, speaker], layers.Dense(2)(x))


def speaker_in_each_step():
    frames, speaker = keras.Input((30, 3)), keras.Input((5,), name="speaker")
    x = layers.Concatenate()([frames, layers.RepeatVector(30)(layers.Dense(4)(speaker))])
    return keras.Model([frames, speaker], layers.Dense(2)(gru()(x)))


def genre_added_to_embeddings():
    tokens, genre = keras.Input((None,), dtype="int32"), keras.Input((1,), dtype="int32", name="genre")
    x = layers.Embedding(SIZE, UNITS)(tokens) + layers.Embedding(4, UNITS)(genre)
    return keras.Model([tokens, genre], layers.Dense(SIZE)(gru()(x)))


def translation(encoder=None, mask_zero=False, **options):
    """Keras's example of translation, with embeddings: the last states of an encoder start the decoder."""
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    encoder = encoder or layers.LSTM(UNITS, return_state=True)
    _, *states = encoder(layers.Embedding(11, UNITS, mask_zero=mask_zero)(source))
    if len(states) == 4:  # of both directions
        states = [layers.Concatenate()([states[0], states[2]]), layers.Concatenate()([states[1], states[3]])]
    x = layers.LSTM(states[0].shape[-1], return_sequences=True, **options)(
        layers.Embedding(SIZE, UNITS)(target), initial_state=states
    )
    return keras.Model([source, target], layers.Dense(SIZE, activation="softmax")(x))


def translation_of_one_hot():
    """Keras's example "Character-level recurrent sequence-to-sequence model", as it is."""
    source, target = keras.Input((None, 11)), keras.Input((None, SIZE))
    _, *states = layers.LSTM(UNITS, return_state=True)(source)
    x, _, _ = layers.LSTM(UNITS, return_sequences=True, return_state=True)(target, initial_state=states)
    return keras.Model([source, target], layers.Dense(SIZE, activation="softmax")(x))


def decoder_with_given_states():
    """The inference model of the same example: states in, states out."""
    target, hidden, cell = keras.Input((None, SIZE)), keras.Input((UNITS,)), keras.Input((UNITS,))
    x, *states = layers.LSTM(UNITS, return_sequences=True, return_state=True)(target, initial_state=[hidden, cell])
    return keras.Model([target, hidden, cell], [layers.Dense(SIZE, activation="softmax")(x), *states])


def activity():
    """Classifies 128 frames of an accelerometer (Brownlee, "LSTMs for human activity recognition")."""
    return chain(
        (128, 9),
        layers.LSTM(32),
        layers.Dropout(0.5),
        layers.Dense(12, activation="relu"),
        layers.Dense(6, activation="softmax"),
    )


def activity_of_parts():
    """The same with four parts of 32 frames, each through a convolution."""
    return chain(
        (4, 32, 9),
        layers.TimeDistributed(layers.Conv1D(8, 3, activation="relu")),
        layers.TimeDistributed(layers.MaxPooling1D(2)),
        layers.TimeDistributed(layers.Flatten()),
        layers.LSTM(32),
        layers.Dense(6, activation="softmax"),
    )


def activity_of_images():
    return chain(
        (4, 1, 32, 9),
        layers.ConvLSTM2D(4, (1, 3), activation="relu"),
        layers.Flatten(),
        layers.Dense(6, activation="softmax"),
    )


def weather():
    """Keras's example "Timeseries forecasting for weather prediction"."""
    return chain((120, 7), layers.LSTM(32), layers.Dense(1))


def trigger_word():
    """The strided convolution before two GRUs of the Sequence Models course, with 100 instead of 5,511 frames."""
    return chain(
        (103, 10),
        layers.Conv1D(12, kernel_size=15, strides=4),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.Dropout(0.8),
        gru(),
        layers.Dropout(0.8),
        layers.BatchNormalization(),
        gru(),
        layers.BatchNormalization(),
        layers.TimeDistributed(layers.Dense(1, activation="sigmoid")),
    )


def keywords():
    """Keyword spotting: convolutions that look back, a GRU, and an answer at the end."""
    return chain(
        (None, 10),
        layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu"),
        layers.ZeroPadding1D((3, 0)),
        layers.DepthwiseConv1D(4),
        layers.ZeroPadding1D((2, 0)),
        layers.SeparableConv1D(8, 3),
        layers.BatchNormalization(),
        layers.GRU(32),
        layers.Dense(4, activation="softmax"),
    )


def keywords_of_images():
    """A convolution over time and frequency, as of Arik et al. 2017, arXiv 1703.05390."""
    return chain(
        (None, 10, 1),
        layers.Conv2D(4, (5, 3), strides=(2, 2), activation="relu"),
        layers.Reshape((-1, 16)),
        gru(),
        layers.GRU(32),
        layers.Dense(4, activation="softmax"),
    )


def documents():
    """Sentences of six words each, read by an LSTM inside each step."""
    words = keras.Input((None, 6), dtype="int32")
    x = layers.Embedding(SIZE, UNITS)(words)
    x = layers.TimeDistributed(layers.LSTM(6))(x)
    return keras.Model(words, layers.Dense(3)(gru()(x)))


def with_a_row_for_each(shape):
    def last_step(x):
        return x[:, -1]

    return chain(shape, gru(), last_step, layers.Dense(3))


SEVERAL = {
    "gains and voice activity of a noise suppressor": noise_suppressor,
    "three outputs of music": music,
    "logits and states": logits_and_states,
    "tokens and frames side by side": tokens_and_frames,
    "video frames and a mask": frames_and_mask,
    "a speaker's vector as initial state": speaker_as_initial_state,
    "a speaker's vector in each step": speaker_in_each_step,
    "a genre added to the embeddings": genre_added_to_embeddings,
    "given states": decoder_with_given_states,
}
ENCODERS = {
    "translation": translation,
    "translation with mask_zero": lambda: translation(mask_zero=True),
    "translation with a bidirectional encoder": lambda: translation(
        layers.Bidirectional(layers.LSTM(5, return_state=True))
    ),
    "translation of one-hot vectors": translation_of_one_hot,
}
AT_THE_END = {
    "activity": activity,
    "activity of parts": activity_of_parts,
    "activity of images": activity_of_images,
    "weather": weather,
    "the last step taken": lambda: with_a_row_for_each((None, 3)),
    "the last state taken": lambda: chain(
        (None, 3), layers.GRU(32, return_state=True), lambda x: x[1], layers.Dense(2)
    ),
    "Masking and an LSTM": lambda: chain((None, 3), layers.Masking(), layers.LSTM(32), layers.Dense(2)),
}
CONVOLUTIONS = {
    "trigger word": trigger_word,
    "keywords": keywords,
    "keywords of images": keywords_of_images,
    "Conv1D, causal": lambda: chain((None, 3), layers.Conv1D(6, 3, padding="causal"), gru(), layers.Dense(2)),
    "Conv1D, causal, dilated by 40": lambda: chain(
        (None, 3), gru(), layers.Conv1D(6, 2, padding="causal", dilation_rate=40), layers.Dense(2)
    ),
    "Conv1D, causal, strided": lambda: chain(
        (None, 3), layers.Conv1D(6, 5, padding="causal", strides=3), gru(), layers.Dense(2)
    ),
    "Conv1D, valid": lambda: chain((None, 3), layers.Conv1D(6, 4), gru(), layers.Dense(2)),
    "Conv1D, valid, then causal and strided": lambda: chain(
        (None, 3),
        layers.Conv1D(6, 4),
        layers.Conv1D(6, 3, padding="causal", strides=2),
        layers.Conv1D(6, 3, strides=2),
        gru(),
        layers.Dense(2),
    ),
    "DepthwiseConv1D, valid, dilated": lambda: chain(
        (None, 3), layers.DepthwiseConv1D(3, dilation_rate=2), gru(), layers.Dense(2)
    ),
    "SeparableConv1D, padded, dilated": lambda: chain(
        (None, 3),
        layers.ZeroPadding1D((6, 0)),
        layers.SeparableConv1D(6, 3, dilation_rate=3),
        gru(),
        layers.Dense(2),
    ),
    "pooling over two frames": lambda: chain(
        (None, 3),
        layers.Conv1D(6, 3, padding="causal"),
        layers.MaxPooling1D(2),
        gru(),
        layers.AveragePooling1D(3, 1),
        gru(),
    ),
    "Conv1D, causal, dilated by 100": lambda: chain(
        (None, 3), layers.Conv1D(6, 2, padding="causal", dilation_rate=100), gru(), layers.Dense(2)
    ),
    "Conv1D, valid, dilated by 40": lambda: chain(
        (None, 3), layers.Conv1D(6, 3, dilation_rate=40), gru(), layers.Dense(2)
    ),
    "a GRU before a strided convolution": lambda: chain(
        (None, 3), gru(), layers.Conv1D(6, 4, strides=2), gru(), layers.Dense(2)
    ),
}
INNER = {
    "TimeDistributed(LSTM)": documents,
    "TimeDistributed(Bidirectional)": lambda: chain(
        (None, 5, 3), layers.TimeDistributed(layers.Bidirectional(layers.GRU(4))), gru(), layers.Dense(2)
    ),
    "Reshape of four frames to one": lambda: chain(
        (None, 3), layers.Reshape((-1, 4, 3)), layers.TimeDistributed(layers.GRU(5)), gru(), layers.Dense(2)
    ),
    "Reshape of a fixed length": lambda: chain((12, 3, 2), layers.Reshape((12, 6)), gru(), layers.Dense(2)),
    "Reshape of one frame to two": lambda: chain((None, 6), layers.Reshape((-1, 3)), gru(), layers.Dense(2)),
}
TEXTS = {
    "one-hot vectors": lambda: chain((None, SIZE), gru(), layers.Dense(SIZE)),
    "one-hot vectors, 40 characters": lambda: chain(
        (40, SIZE), layers.LSTM(32), layers.Dense(SIZE, activation="softmax")
    ),
    "CategoryEncoding": lambda: chain(
        (None,), layers.CategoryEncoding(SIZE, output_mode="one_hot"), gru(), layers.Dense(SIZE), dtype="int32"
    ),
    "logits and states": logits_and_states,
    "a causal convolution": lambda: chain(
        (None,),
        layers.Embedding(SIZE, UNITS),
        layers.Conv1D(UNITS, 3, padding="causal", activation="relu"),
        gru(),
        layers.Dense(SIZE),
        dtype="int32",
    ),
    "translation": translation,
    "translation of one-hot vectors": translation_of_one_hot,
    "an answer at the end": lambda: chain(
        (None,), layers.Embedding(SIZE, UNITS), layers.GRU(32), layers.Dense(SIZE), dtype="int32"
    ),
}
ONE_OF_EACH = [  # for proofs that need not be repeated for every form of a feature
    "gains and voice activity of a noise suppressor",
    "three outputs of music",
    "tokens and frames side by side",
    "video frames and a mask",
    "a speaker's vector in each step",
    "translation",
    "activity of parts",
    "weather",
    "trigger word",
    "keywords",
    "TimeDistributed(LSTM)",
    "Reshape of one frame to two",
]
AT_THE_END |= {
    "two answers, the second later": lambda: two_branches(at_once, after_three_steps),
    "two answers, the first later": lambda: two_branches(after_three_steps, at_once),
}
FRAMES = {**SEVERAL, **ENCODERS, **AT_THE_END, **CONVOLUTIONS, **INNER}


def randomized(model, seed=0):
    """Gives every weight a random value, so that nothing is hidden by a zero."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        spread = 1 / np.sqrt(weight.shape[0]) if len(weight.shape) > 1 else 0.3
        values = random.normal(scale=spread, size=weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


class LooksFurtherBack(layers.Conv1D):
    """A convolution that also reads what it gave 70 frames before."""

    def call(self, inputs):
        outputs = super().call(inputs)
        before = keras.ops.pad(outputs, [[0, 0], [70, 0], [0, 0]])
        return outputs + before[:, : keras.ops.shape(outputs)[1]]


def two_branches(*parts):
    """Two answers at the end, of which one is known later than the other; `parts` makes each."""
    frames = keras.Input((None, 3))
    return keras.Model(frames, layers.Dense(2)(layers.Concatenate()([part(frames) for part in parts])))


def at_once(frames):
    return layers.GRU(32)(frames)


def after_three_steps(frames):
    return layers.GRU(32)(layers.Conv1D(4, 4)(frames))


def state_of_the_sequence(part):
    """A recurrent layer whose initial state is `part` of the frames that it reads."""
    frames = keras.Input((None, UNITS))
    return keras.Model(frames, gru(name="decoder")(frames, initial_state=part(frames)))


def autoencoder():
    frames = keras.Input((10, 3))
    x = layers.RepeatVector(10, name="repeated")(layers.GRU(UNITS, name="encoder")(frames))
    return keras.Model(frames, layers.Dense(3)(gru()(x)))


def bidirectional_decoder():
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    state = layers.GRU(UNITS)(layers.Embedding(11, UNITS)(source))
    x = gru()(layers.Embedding(SIZE, UNITS)(target), initial_state=state)
    return keras.Model([source, target], layers.Dense(SIZE)(layers.Bidirectional(gru(), name="both")(x)))


def branches_of_other_strides():
    frames = keras.Input((None, 3))
    fast = layers.Conv1D(6, 2, padding="causal", strides=2)(frames)
    slow = layers.Conv1D(6, 2, padding="causal", strides=4)(frames)
    x = layers.Add(name="merged")([gru(6)(fast), gru(6)(slow)])
    return keras.Model(frames, x)


def over_all_outputs_of_the_encoder():
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    encoded = gru()(layers.Embedding(11, UNITS)(source))
    x = gru()(layers.Embedding(SIZE, UNITS)(target))
    x = layers.Concatenate()([x, layers.Attention()([x, encoded])])
    return keras.Model([source, target], layers.Dense(SIZE)(x))


REFUSED = {
    # After some random steps it is the same in all rows.
    "an initial state that looks ahead": (
        lambda: state_of_the_sequence(lambda frames: keras.ops.max(keras.ops.sign(frames), axis=1)),
        "layer 'decoder' .GRU. cannot be stepped: the initial_state that it is given depends on the sequence",
    ),
    "a convolution with a call of its own": (
        lambda: chain((None, 3), LooksFurtherBack(6, 3, padding="causal", name="further"), gru()),
        "layer 'further' .LooksFurtherBack. cannot be stepped: it looks across time",
    ),
    "a convolution that looks ahead": (
        lambda: chain((None, 3), layers.Conv1D(6, 3, padding="same", name="conv"), gru()),
        "layer 'conv' .Conv1D. cannot be stepped: it looks across time, ahead",
    ),
    "frames after the last one": (
        lambda: chain((None, 3), layers.ZeroPadding1D(1, name="pad"), layers.Conv1D(6, 3), gru()),
        "layer 'pad' .ZeroPadding1D. cannot be stepped: it adds frames after the last one",
    ),
    "strides that differ": (branches_of_other_strides, "layer 'merged' .Add. cannot be stepped: it merges"),
    "a stride longer than the sequence": (
        lambda: chain((6, 3), layers.Conv1D(6, 2, strides=2), layers.Conv1D(6, 1, strides=4), gru()),
        "at least one step of 8 frames",
    ),
    "Bidirectional": (
        lambda: chain((None, 3), layers.Bidirectional(gru(), name="both")),
        "layer 'both' .Bidirectional. cannot be stepped",
    ),
    "Bidirectional in a decoder": (bidirectional_decoder, "layer 'both' .Bidirectional. cannot be stepped"),
    "RepeatVector of the last output": (
        autoencoder,
        "layer 'repeated' .RepeatVector. cannot be stepped: it repeats the last output of layer 'encoder'",
    ),
    "attention over all steps": (over_all_outputs_of_the_encoder, "Attention. cannot be stepped|fixed size"),
    "pooling over time": (
        lambda: chain((None, 3), gru(), layers.GlobalAveragePooling1D(name="mean"), layers.Dense(2)),
        "layer 'mean' .GlobalAveragePooling1D. cannot be stepped",
    ),
    "go_backwards": (
        lambda: chain((None, 3), layers.GRU(UNITS, go_backwards=True, name="back"), layers.Dense(2)),
        "layer 'back' .GRU. cannot be stepped: go_backwards=True",
    ),
}
