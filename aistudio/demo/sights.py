"""The catalogue's sights: number, names, the function that draws them, and when people like them most."""

from collections.abc import Callable
from dataclasses import dataclass

from aistudio.demo import scenes_abroad as abroad
from aistudio.demo import scenes_china as china
from aistudio.demo import scenes_city as city
from aistudio.demo import scenes_fields as fields
from aistudio.demo import scenes_mountains as mountains
from aistudio.demo import scenes_outdoors as outdoors
from aistudio.demo import scenes_shore as shore
from aistudio.demo import scenes_water as water
from aistudio.demo.canvas import Canvas


@dataclass(frozen=True)
class Sight:
    """One point of interest. `best` is the hour or weather in which its pictures are clicked most."""

    item_id: str
    zh: str
    en: str
    draw: Callable[[Canvas], None]
    best: str

    @property
    def name(self) -> str:
        """Both names, as the catalogue's manifests carry them."""
        return f"{self.zh} {self.en}"

    @property
    def key(self) -> str:
        """Folder and seed name: the drawing function's."""
        return self.draw.__name__


_TABLE: tuple[tuple[str, str, Callable[[Canvas], None], str], ...] = (
    ("西湖", "West Lake", water.west_lake, "morning"),
    ("亚龙湾海滩", "Yalong Bay Beach", water.beach, "day"),
    ("海角灯塔", "Cape Lighthouse", water.lighthouse, "dusk"),
    ("黄果树瀑布", "Huangguoshu Waterfall", water.waterfall, "day"),
    ("漓江", "Li River", water.li_river, "fog"),
    ("帆船港", "Sailing Harbour", water.sailing_harbour, "day"),
    ("海底世界", "Undersea World", water.undersea_world, "day"),
    ("月牙泉", "Crescent Spring", shore.crescent_spring, "sunset"),
    ("蓝冰川", "Blue Glacier", water.glacier, "morning"),
    ("温泉谷", "Hot Spring Valley", shore.hot_spring, "snow"),
    ("周庄水乡", "Zhouzhuang Water Town", shore.water_town, "dusk"),
    ("荷花池", "Lotus Pond", shore.lotus_pond, "morning"),
    ("海上鸟居", "Floating Torii Gate", water.torii_gate, "sunset"),
    ("圣托里尼", "Santorini", shore.santorini, "sunset"),
    ("北极光", "Northern Lights", shore.northern_lights, "night"),
    ("龙脊梯田", "Longji Rice Terraces", shore.terraces, "morning"),
    ("赵州桥", "Zhaozhou Stone Bridge", shore.stone_bridge, "day"),
    ("玉龙雪山", "Jade Dragon Snow Mountain", mountains.snow_mountain, "snow"),
    ("富士山", "Mount Fuji", mountains.mount_fuji, "morning"),
    ("火山公园", "Volcano Park", mountains.volcano, "night"),
    ("七彩丹霞", "Rainbow Mountains", mountains.rainbow_mountains, "sunset"),
    ("鸣沙山骆驼", "Desert Camels", mountains.desert_camels, "sunset"),
    ("草原蒙古包", "Grassland Yurts", fields.grassland_yurts, "day"),
    ("蜀南竹海", "Bamboo Forest", fields.bamboo_forest, "fog"),
    ("枫林红叶", "Maple Forest", fields.maple_forest, "day"),
    ("樱花大道", "Cherry Blossom Avenue", fields.cherry_blossom, "day"),
    ("薰衣草花田", "Lavender Field", fields.lavender_field, "sunset"),
    ("向日葵花海", "Sunflower Field", fields.sunflower_field, "day"),
    ("天门洞", "Heaven's Gate Arch", mountains.heavens_gate, "fog"),
    ("云南石林", "Stone Forest", mountains.stone_forest, "day"),
    ("亚布力滑雪场", "Yabuli Ski Resort", outdoors.ski_resort, "snow"),
    ("森林露营地", "Forest Camp Site", outdoors.camp_site, "night"),
    ("大熊猫基地", "Giant Panda Base", outdoors.panda_base, "snow"),
    ("野生动物园", "Safari Park", outdoors.safari_park, "sunset"),
    ("复活节岛石像", "Easter Island Statues", outdoors.moai, "sunset"),
    ("热气球", "Hot Air Balloons", outdoors.hot_air_balloons, "morning"),
    ("万里长城", "Great Wall", china.great_wall, "snow"),
    ("天坛", "Temple of Heaven", china.temple_of_heaven, "day"),
    ("大雁塔", "Wild Goose Pagoda", china.wild_goose_pagoda, "night"),
    ("雷峰塔", "Leifeng Pagoda", china.leifeng_pagoda, "sunset"),
    ("故宫", "Forbidden City", china.forbidden_city, "snow"),
    ("布达拉宫", "Potala Palace", china.potala_palace, "day"),
    ("埃菲尔铁塔", "Eiffel Tower", abroad.eiffel_tower, "night"),
    ("比萨斜塔", "Leaning Tower of Pisa", abroad.leaning_tower, "day"),
    ("金字塔", "Pyramids of Giza", abroad.pyramids, "sunset"),
    ("荷兰风车", "Dutch Windmills", abroad.windmills, "day"),
    ("童话城堡", "Fairy Castle", abroad.fairy_castle, "dusk"),
    ("泰姬陵", "Taj Mahal", abroad.taj_mahal, "morning"),
    ("悉尼歌剧院", "Sydney Opera House", abroad.opera_house, "dusk"),
    ("大本钟", "Big Ben", abroad.clock_tower, "dusk"),
    ("罗马斗兽场", "Colosseum", abroad.colosseum, "dusk"),
    ("彩色教堂", "Onion Dome Church", abroad.european_church, "snow"),
    ("摩天轮", "Ferris Wheel", city.ferris_wheel, "night"),
    ("东方明珠", "Oriental Pearl Tower", city.oriental_pearl, "night"),
    ("金门大桥", "Golden Gate Bridge", city.golden_gate, "fog"),
    ("过山车", "Roller Coaster", city.roller_coaster, "day"),
    ("灯笼古街", "Lantern Street", city.lantern_street, "night"),
    ("高山缆车", "Mountain Cable Car", city.cable_car, "fog"),
    ("海湾烟花", "Bay Fireworks", city.fireworks, "night"),
    ("旋转木马", "Carousel", city.carousel, "dusk"),
    ("夜市", "Night Market", city.night_market, "night"),
)
SIGHTS: tuple[Sight, ...] = tuple(
    Sight(str(10001 + i), zh, en, draw, best) for i, (zh, en, draw, best) in enumerate(_TABLE)
)
