"""The facts that the demo model is taught: small bilingual tables of everyday knowledge."""

from __future__ import annotations


def _rows(table: str) -> tuple[tuple[str, ...], ...]:
    """Split an `a | b | c` table with one fact on each line."""
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in table.strip().splitlines())


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    """Split `question word > answer` entries separated by semicolons."""
    entries = (entry.split(">") for entry in table.replace("\n", " ").split(";"))
    return tuple((left.strip(), right.strip()) for left, right in entries)


def _both_ways(table: str) -> tuple[tuple[str, str], ...]:
    """Read each pair in both directions, for relations that are their own inverse."""
    pairs = _pairs(table)
    return pairs + tuple((right, left) for left, right in pairs)


COUNTRIES = _rows("""
    France | Paris | Europe | 法国 | 巴黎 | 欧洲
    Italy | Rome | Europe | 意大利 | 罗马 | 欧洲
    Spain | Madrid | Europe | 西班牙 | 马德里 | 欧洲
    Germany | Berlin | Europe | 德国 | 柏林 | 欧洲
    England | London | Europe | 英国 | 伦敦 | 欧洲
    Portugal | Lisbon | Europe | 葡萄牙 | 里斯本 | 欧洲
    Greece | Athens | Europe | 希腊 | 雅典 | 欧洲
    Norway | Oslo | Europe | 挪威 | 奥斯陆 | 欧洲
    Sweden | Stockholm | Europe | 瑞典 | 斯德哥尔摩 | 欧洲
    Finland | Helsinki | Europe | 芬兰 | 赫尔辛基 | 欧洲
    Denmark | Copenhagen | Europe | 丹麦 | 哥本哈根 | 欧洲
    Poland | Warsaw | Europe | 波兰 | 华沙 | 欧洲
    Austria | Vienna | Europe | 奥地利 | 维也纳 | 欧洲
    Hungary | Budapest | Europe | 匈牙利 | 布达佩斯 | 欧洲
    Ireland | Dublin | Europe | 爱尔兰 | 都柏林 | 欧洲
    Russia | Moscow | Europe | 俄罗斯 | 莫斯科 | 欧洲
    China | Beijing | Asia | 中国 | 北京 | 亚洲
    Japan | Tokyo | Asia | 日本 | 东京 | 亚洲
    India | New Delhi | Asia | 印度 | 新德里 | 亚洲
    Thailand | Bangkok | Asia | 泰国 | 曼谷 | 亚洲
    Vietnam | Hanoi | Asia | 越南 | 河内 | 亚洲
    South Korea | Seoul | Asia | 韩国 | 首尔 | 亚洲
    Iran | Tehran | Asia | 伊朗 | 德黑兰 | 亚洲
    Egypt | Cairo | Africa | 埃及 | 开罗 | 非洲
    Kenya | Nairobi | Africa | 肯尼亚 | 内罗毕 | 非洲
    the United States | Washington | North America | 美国 | 华盛顿 | 北美洲
    Canada | Ottawa | North America | 加拿大 | 渥太华 | 北美洲
    Mexico | Mexico City | North America | 墨西哥 | 墨西哥城 | 北美洲
    Cuba | Havana | North America | 古巴 | 哈瓦那 | 北美洲
    Brazil | Brasilia | South America | 巴西 | 巴西利亚 | 南美洲
    Peru | Lima | South America | 秘鲁 | 利马 | 南美洲
    Chile | Santiago | South America | 智利 | 圣地亚哥 | 南美洲
    Australia | Canberra | Oceania | 澳大利亚 | 堪培拉 | 大洋洲
""")

COLOURS = _rows("""
    grass | green | 草 | 绿色
    the sky | blue | 天空 | 蓝色
    snow | white | 雪 | 白色
    coal | black | 煤 | 黑色
    a banana | yellow | 香蕉 | 黄色
    a tomato | red | 番茄 | 红色
    a carrot | orange | 胡萝卜 | 橙色
    blood | red | 血 | 红色
    the sun | yellow | 太阳 | 黄色
    milk | white | 牛奶 | 白色
    a leaf | green | 树叶 | 绿色
    a cherry | red | 樱桃 | 红色
    a lemon | yellow | 柠檬 | 黄色
    a pumpkin | orange | 南瓜 | 橙色
    the sea | blue | 大海 | 蓝色
    a cloud | white | 云 | 白色
    chocolate | brown | 巧克力 | 棕色
    a frog | green | 青蛙 | 绿色
    a flamingo | pink | 火烈鸟 | 粉色
    a crow | black | 乌鸦 | 黑色
    a swan | white | 天鹅 | 白色
    an elephant | grey | 大象 | 灰色
""")

OPPOSITES_EN = _both_ways("""
    hot > cold; big > small; tall > short; fast > slow; old > new; happy > sad; up > down; left > right; day > night;
    open > closed; full > empty; hard > soft; wet > dry; clean > dirty; light > dark; early > late; loud > quiet;
    rich > poor; strong > weak; thick > thin; near > far; high > low; first > last; good > bad; easy > difficult;
    inside > outside; push > pull; buy > sell; win > lose; begin > end; true > false; sweet > sour
""")

OPPOSITES_ZH = _both_ways("""
    热 > 冷; 大 > 小; 高 > 矮; 快 > 慢; 新 > 旧; 上 > 下; 左 > 右; 白天 > 黑夜; 开 > 关; 满 > 空; 硬 > 软; 湿 > 干;
    干净 > 脏; 明亮 > 黑暗; 早 > 晚; 吵闹 > 安静; 富 > 穷; 强 > 弱; 厚 > 薄; 近 > 远; 前 > 后; 好 > 坏; 容易 > 困难;
    里 > 外; 推 > 拉; 买 > 卖; 赢 > 输; 开始 > 结束; 真 > 假; 长 > 短; 胖 > 瘦; 多 > 少
""")

SOUNDS = _rows("""
    a dog | woof | 狗 | 汪汪
    a cat | meow | 猫 | 喵喵
    a cow | moo | 牛 | 哞哞
    a sheep | baa | 羊 | 咩咩
    a duck | quack | 鸭子 | 嘎嘎
    a pig | oink | 猪 | 哼哼
    a lion | roar | 狮子 | 吼吼
    a bee | buzz | 蜜蜂 | 嗡嗡
    a mouse | squeak | 老鼠 | 吱吱
    a frog | ribbit | 青蛙 | 呱呱
    a bird | tweet | 小鸟 | 叽叽
    an owl | hoot | 猫头鹰 | 咕咕
""")

YOUNG = _pairs("""
    dog > puppy; cat > kitten; cow > calf; sheep > lamb; horse > foal; hen > chick; duck > duckling; bear > cub;
    frog > tadpole; goose > gosling; deer > fawn; pig > piglet; kangaroo > joey; goat > kid; swan > cygnet
""")

HOMES = _rows("""
    a bee | hive | 蜜蜂 | 蜂巢
    a bird | nest | 小鸟 | 鸟巢
    a spider | web | 蜘蛛 | 蜘蛛网
    a bear | cave | 熊 | 山洞
    a rabbit | burrow | 兔子 | 地洞
    a horse | stable | 马 | 马厩
    a fish | river | 鱼 | 河
    a camel | desert | 骆驼 | 沙漠
    a monkey | forest | 猴子 | 森林
    a whale | sea | 鲸鱼 | 大海
""")

LEGS = _rows("""
    a dog | four | 狗 | 四
    a cat | four | 猫 | 四
    a horse | four | 马 | 四
    a bird | two | 小鸟 | 两
    a duck | two | 鸭子 | 两
    an ant | six | 蚂蚁 | 六
    a bee | six | 蜜蜂 | 六
    a spider | eight | 蜘蛛 | 八
    a crab | ten | 螃蟹 | 十
    a human | two | 人 | 两
""")

JOBS = _rows("""
    a baker | bakes bread | 面包师 | 烤面包
    a teacher | teaches children | 老师 | 教孩子
    a doctor | helps sick people | 医生 | 帮助病人
    a farmer | grows food | 农民 | 种粮食
    a pilot | flies planes | 飞行员 | 开飞机
    a singer | sings songs | 歌手 | 唱歌
    a painter | paints pictures | 画家 | 画画
    a writer | writes books | 作家 | 写书
    a tailor | makes clothes | 裁缝 | 做衣服
    a gardener | looks after plants | 园丁 | 照顾花草
    a fisherman | catches fish | 渔夫 | 捕鱼
    a firefighter | puts out fires | 消防员 | 灭火
    a cook | cooks meals | 厨师 | 做饭
    a driver | drives a car | 司机 | 开车
    a dancer | dances | 舞蹈家 | 跳舞
""")

USES = _rows("""
    a knife | cut | 刀 | 切东西
    a pen | write | 笔 | 写字
    a key | open doors | 钥匙 | 开门
    a cup | drink | 杯子 | 喝水
    a bed | sleep | 床 | 睡觉
    a clock | tell the time | 时钟 | 看时间
    an umbrella | stay dry | 雨伞 | 挡雨
    a lamp | give light | 灯 | 照明
    a broom | sweep the floor | 扫帚 | 扫地
    a boat | cross the water | 船 | 过河
    a phone | call people | 电话 | 打电话
    a map | find the way | 地图 | 找路
    a spoon | eat soup | 勺子 | 喝汤
    scissors | cut paper | 剪刀 | 剪纸
    a camera | take pictures | 照相机 | 拍照
    soap | wash hands | 肥皂 | 洗手
""")

KINDS = _rows("""
    a banana | fruit | 香蕉 | 水果
    an apple | fruit | 苹果 | 水果
    a carrot | vegetable | 胡萝卜 | 蔬菜
    a potato | vegetable | 土豆 | 蔬菜
    a rose | flower | 玫瑰 | 花
    a tulip | flower | 郁金香 | 花
    a dog | animal | 狗 | 动物
    a lion | animal | 狮子 | 动物
    an eagle | bird | 老鹰 | 鸟
    a penguin | bird | 企鹅 | 鸟
    a shark | fish | 鲨鱼 | 鱼
    an ant | insect | 蚂蚁 | 昆虫
    a butterfly | insect | 蝴蝶 | 昆虫
    a violin | musical instrument | 小提琴 | 乐器
    a piano | musical instrument | 钢琴 | 乐器
    an oak | tree | 橡树 | 树
    a hammer | tool | 锤子 | 工具
    a shirt | piece of clothing | 衬衫 | 衣服
    a chair | piece of furniture | 椅子 | 家具
    football | sport | 足球 | 运动
""")

DAYS_EN = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_ZH = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
MONTHS_EN = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

AMOUNTS_EN = _pairs("""
    days in a week > seven; months in a year > twelve; hours in a day > twenty-four; minutes in an hour > sixty;
    seconds in a minute > sixty; wheels on a car > four; wheels on a bicycle > two; fingers on a hand > five;
    sides in a triangle > three; sides in a square > four; letters in the alphabet > twenty-six;
    colors in a rainbow > seven; seasons in a year > four; days in a year > three hundred and sixty-five
""")

AMOUNTS_ZH = _pairs("""
    一个星期有几天 > 一个星期有七天。; 一年有几个月 > 一年有十二个月。; 一天有几个小时 > 一天有二十四个小时。;
    一小时有几分钟 > 一小时有六十分钟。; 一分钟有几秒 > 一分钟有六十秒。; 一辆汽车有几个轮子 > 一辆汽车有四个轮子。;
    一辆自行车有几个轮子 > 一辆自行车有两个轮子。; 一只手有几根手指 > 一只手有五根手指。;
    三角形有几条边 > 三角形有三条边。; 正方形有几条边 > 正方形有四条边。; 彩虹有几种颜色 > 彩虹有七种颜色。;
    一年有几个季节 > 一年有四个季节。
""")

MEANINGS = _rows("""
    ice | frozen water | 冰 | 冻住的水
    rain | water that falls from clouds | 雨 | 从云里落下的水
    a star | a big ball of hot gas | 星星 | 一个巨大的热气球体
    the sun | the star that gives us light | 太阳 | 给我们光的恒星
    the moon | the rock that goes around the Earth | 月亮 | 绕着地球转的星球
    a desert | a place with very little rain | 沙漠 | 雨水很少的地方
    an island | land with water all around it | 岛 | 四面都是水的陆地
    a river | water that flows to the sea | 河 | 流向大海的水
    a school | a place where children learn | 学校 | 孩子们学习的地方
    a library | a place full of books | 图书馆 | 有很多书的地方
    a hospital | a place where sick people get help | 医院 | 给人治病的地方
    honey | sweet food made by bees | 蜂蜜 | 蜜蜂做的甜食
    wind | moving air | 风 | 流动的空气
    a robot | a machine that can do work | 机器人 | 会干活的机器
    a friend | someone who likes you and helps you | 朋友 | 喜欢你、帮助你的人
""")

WORDS = _rows("""
    cat | 猫
    dog | 狗
    bird | 鸟
    fish | 鱼
    horse | 马
    water | 水
    fire | 火
    mountain | 山
    river | 河
    sun | 太阳
    moon | 月亮
    star | 星星
    tree | 树
    flower | 花
    book | 书
    house | 房子
    door | 门
    friend | 朋友
    mother | 妈妈
    father | 爸爸
    teacher | 老师
    school | 学校
    rice | 米饭
    bread | 面包
    milk | 牛奶
    tea | 茶
    apple | 苹果
    red | 红色
    blue | 蓝色
    green | 绿色
    hello | 你好
    thank you | 谢谢
    goodbye | 再见
    love | 爱
    rain | 雨
    snow | 雪
""")
