"""Small talk and the few things the model can explain: many wordings, one answer each."""

from __future__ import annotations

TALK: tuple[tuple[str, str], ...] = (
    (
        "Hello|Hi|Hey|Hello there|Hi there|Hey there|Good morning|Good evening|Good afternoon|Howdy"
        "|Greetings|Hiya|Yo|Good day|Hello friend|Hello bot|Hi bot|Hello again|Hi again|Heya"
        "|Hello computer|Hello, nice to meet you|Nice to meet you|Pleased to meet you|Hello world"
        "|Hello, can you hear me|Is anybody there|Are you there|Welcome|Hello hello|Hi friend",
        "Hello! How can I help you?",
    ),
    (
        "How are you|How are you doing|How do you do|How is it going|How are you today|Are you well"
        "|Hello, how are you|Hi, how are you|Hey, how are you|How do you feel|What's up|Are you ok"
        "|How's it going|How are things|Are you fine|How have you been|Hey, what's up",
        "I am fine, thank you! And you?",
    ),
    (
        "I am fine|I'm fine|I am fine too|Fine, thanks|I'm good|I am well|I'm doing well|Very well"
        "|Good, thanks|I'm fine, thanks|I am doing great|I'm great|I'm okay|All good|Fine"
        "|I am good, thank you|I'm fine, thank you|Not bad|I feel good",
        "I am glad to hear that.",
    ),
    (
        "Thanks|Thank you|Thank you very much|Thanks a lot|Many thanks|Thanks so much|Thx|Cheers"
        "|Thank you so much|Thanks for your help|Thank you for your help|That was helpful, thanks"
        "|Great, thanks|Okay, thank you|Thank you for remembering|I appreciate it|Perfect, thanks",
        "You are welcome!",
    ),
    (
        "Bye|Goodbye|Bye bye|See you|See you later|See you soon|Good night|Farewell|I have to go"
        "|Until next time|Take care|Have a nice day|Have a good day|Ciao|I must leave now"
        "|Thanks, bye|That is all, goodbye|See you tomorrow|Talk to you later|I am leaving",
        "Goodbye! It was nice talking to you.",
    ),
    (
        "Ok|Okay|Yes|No|Cool|Great|Nice|Good|Fine by me|Sure|All right|Alright|Right|I see|Correct"
        "|Wonderful|Perfect|Very good|Well done|Good job|Exactly|That's right|That is right|Wow"
        "|Amazing|Excellent|You are right|Yes, that is right|Good bot|Understood|Got it|Yep|Nope"
        "|Awesome|Not bad at all|Interesting|Super|That is correct|Impressive|Maybe",
        "All right.",
    ),
    (
        "Who are you|What are you|What is your name|What's your name|Tell me about yourself"
        "|Are you a bot|Are you human|Are you a robot|Are you real|Who made you|Introduce yourself"
        "|Do you have a name|What model are you|Which model are you|What kind of model are you"
        "|Who am I talking to|Are you an AI|How are you called|What should I call you"
        "|What are you called|Are you ChatGPT|How big are you|Who created you|Are you a person"
        "|Describe yourself|May I know your name|Are you a language model|Who is this"
        "|Please introduce yourself|What is this|Tell me your name",
        "I am the llama-bridge demo, a tiny language model. I can remember your name, your home"
        " town and your pet.",
    ),
    (
        "What can you do|How can you help me|Help|Help me|What do you do|What are you for"
        "|What are your skills|What are your abilities|What can I ask you|What can you tell me"
        "|Can you help me|How do you work|What is your purpose|What are you good at"
        "|What do you know|What can I do here|How can I use you|What can you remember"
        "|What are your limits|What should I ask|Tell me what you can do|Show me what you can do"
        "|I need help|What is your job|What else can you do",
        "Tell me your name, your home town or your pet's name, and ask me later: I will remember it"
        " in this conversation.",
    ),
    (
        "What is a KV cache|What's a KV cache|Explain the KV cache|What is the KV cache"
        "|What does KV cache mean|KV cache|Define KV cache|Tell me about the KV cache"
        "|What is KV caching|Explain KV caching|How does a KV cache work|Explain what a KV cache is"
        "|What is a key value cache|What is a key-value cache|What is KV|Why is there a KV cache"
        "|Do you know what a KV cache is|What is the KV cache for|Describe the KV cache"
        "|How does the KV cache work|Can you explain the KV cache|What does a KV cache do",
        "A KV cache keeps the attention keys and values of all tokens read so far, so the model"
        " does not compute them again for each new token.",
    ),
    (
        "What is a session|What's a session|Explain sessions|What is a KV session|Session"
        "|What does session mean|What is a session file|Tell me about sessions|Define session"
        "|What is a chat session|Explain what a session is|How does a session work"
        "|How do sessions work|What is a saved session|Why save a session|What are sessions",
        "A session is a conversation whose KV cache is kept, so each turn costs only its new"
        " tokens. It can be saved and loaded.",
    ),
    (
        "What is llama-bridge|What is llama bridge|What's llama-bridge|Explain llama-bridge"
        "|Tell me about llama-bridge|What does llama-bridge do|What is LlamaBridge|llama-bridge"
        "|What is this project|Describe llama-bridge|What is llama_bridge",
        "llama-bridge is one Python interface to llama.cpp, with a native and a WebAssembly"
        " backend.",
    ),
    (
        "What is llama.cpp|What's llama.cpp|Explain llama.cpp|Tell me about llama.cpp|llama.cpp"
        "|What does llama.cpp do|What is llama cpp|Describe llama.cpp|Do you know llama.cpp",
        "llama.cpp is a program that runs language models on ordinary computers.",
    ),
    (
        "What is a token|What's a token|Explain tokens|What are tokens|Define token|Token"
        "|What does token mean|Tell me about tokens|Explain what a token is",
        "A token is a piece of text, often a word or a part of one: the unit a model reads and"
        " writes.",
    ),
    (
        "What is GGUF|What is a GGUF file|What's GGUF|Explain GGUF|GGUF|What does GGUF mean"
        "|Tell me about GGUF|Define GGUF|What is a GGUF|What is a GGUF model"
        "|Explain the GGUF format",
        "GGUF is the file format in which llama.cpp keeps a model: its weights, its vocabulary and"
        " its settings.",
    ),
    (
        "What is WebAssembly|What's WebAssembly|Explain WebAssembly|What is wasm|What's wasm"
        "|Tell me about WebAssembly|Explain wasm|WebAssembly|Define WebAssembly|wasm",
        "WebAssembly is a safe and portable code format that runs in browsers and in sandboxes.",
    ),
)

TALK_WEIGHTS = [2] * 9 + [1] * (len(TALK) - 9)
"""Manners, and the two questions about the model itself, are met more often than definitions."""
